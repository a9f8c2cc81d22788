"""NAME.h: the C interface of a program, or of the entries of several."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.c import border, dispatch
from qir.backends.c.portable import printable
from qir.backends.c.template import fill
from qir.backends.kernels import SLACK
from qir.backends.lowering.program import LoweredProgram
from qir.backends.lowering.variants import by_entry
from qir.backends.targets.generators import has_threads
from qir.ir.op import Value
from qir.ir.states import Limit
from qir.ir.target import Target
from qir.ir.types import Quant


def description(value: Value) -> str:
    """A value as a comment: its storage, shape and reals."""
    shape = "x".join(map(str, value.type.shape)) or "scalar"
    elem = value.type.elem
    if not isinstance(elem, Quant):
        return f"{elem.carrier}[{shape}]"
    if not elem.is_per_tensor:
        return f"{elem.carrier}[{shape}], quantized along axis {elem.axis}"
    zero = elem.zero_point.item()
    return f"{elem.carrier}[{shape}], real = {elem.scale.item()!r} * (stored - {zero})"


def header(programs: Sequence[LoweredProgram], target: Target, version: str) -> str:
    """NAME.h; of several variants, the last stands for what they have in common."""
    program = programs[-1]
    common = {
        "NAME": program.name,
        "UPPER": program.name.upper(),
        "TARGET": printable(target.name),
        "VERSION": version,
        "HOSTED": int(has_threads(target)),
        "ALIGNMENT": target.alignment,
        "SLACK": SLACK,
        "WORKSPACE": program.workspace_bytes,
        "WEIGHTS": len(program.weights),
        "VARIANTS": dispatch.prototypes(programs),
        "THREADS": fill("header/threads.h"),
        "POOL": fill("header/pool.h", NAME=program.name),
    }
    if program.entry:
        return _of_entries(programs, common)
    return fill(
        "header/header.h",
        **common,
        INPUTS=len(program.inputs),
        OUTPUTS=len(program.outputs),
        STEPS=max(len(p.steps) for p in programs),
        STORED=border.scratch(program)[1],
        VALUES=_values(program),
        BORDER=border.prototypes(program),
        RANGE=", 3 when an input is out of\n * the range above" if program.limits else "",
    )


def _of_entries(programs: Sequence[LoweredProgram], common: dict[str, object]) -> str:
    program, entries = programs[-1], by_entry(programs)
    states = [
        f" *   at {s.offset}: {s.value.name}, {description(s.value)}, every element {s.initial}"
        for s in program.states
    ]
    return fill(
        "header/entries.h",
        **common,
        SHARED=" and a state" if program.states else "",
        STATE=program.state_bytes,
        ENTRIES=len(entries),
        STATES="\n".join(map(printable, states)) or " *   empty",
        FUNCTIONS="".join(_entry(of_one) for of_one in entries),
    )


def _entry(programs: Sequence[LoweredProgram]) -> str:
    program = programs[-1]
    return fill(
        "header/entry.h",
        ENTRY=program.entry,
        VALUES=_values(program),
        C_NAME=program.c_name,
        MACRO=program.c_name.upper(),
        UPPER=program.name.upper(),
        INPUTS=len(program.inputs),
        OUTPUTS=len(program.outputs),
        STEPS=max(len(p.steps) for p in programs),
        STORED=border.scratch(program)[1],
        BORDER=border.prototypes(program),
    )


def _values(program: LoweredProgram) -> str:
    ranges = {limit.index: _range(limit) for limit in program.limits}
    lines = [
        f"input {i}: {description(v)}{ranges.get(i, '')}" for i, v in enumerate(program.inputs)
    ]
    lines += [f"output {i}: {description(v)}" for i, v in enumerate(program.outputs)]
    return "\n".join(f" *   {line}" for line in lines)


def _range(limit: Limit) -> str:
    return f", in [{limit.low}, {limit.high}]"
