"""The README.md of an artifact: what it takes, how it is called, linked and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from qir.backends.artifact.footprint import Footprint
from qir.backends.c.header import description
from qir.backends.c.template import fill
from qir.backends.kernels import SLACK
from qir.backends.lowering.program import LoweredProgram, size_bytes
from qir.backends.targets.generators import generator_of
from qir.backends.toolchain.link import candidates_of
from qir.ir.errors import printable
from qir.ir.target import PYTHON, Target

EMULATE = """\
On another machine, with qir and an emulator ({emulator}) installed:

    python -c "import qir.runtime as r; print(r.load('.', emulate=True).selftest(), 'cases equal')"
"""

SELFTEST = """\
The golden inputs give the golden outputs, byte for byte; no Python is needed:

    {compiler} -O2 {name}_test.c lib{name}.a -lpthread -o selftest
    ./selftest .
"""


def readme(
    entries: Sequence[LoweredProgram],
    target: Target,
    footprint: Footprint,
    symbols: Iterable[str],
    version: str,
) -> str:
    """README.md of a program for each entry; `symbols`: functions of the C library that the core
    calls.
    """
    program = entries[0]
    functions = ", ".join(f"`{symbol}`" for symbol in symbols)
    state = f"| state, the caller's | {footprint.state:,} |\n" if program.entry else ""
    return fill(
        "readme/readme.md",
        NAME=program.name,
        WHAT="Integer-only programs" if program.entry else "An integer-only program",
        TARGET=target.name,
        ABOUT=target.about or target.name,
        VERSION=version,
        WORK=_work(entries),
        PORTS=_ports(entries),
        CODE=f"{footprint.code:,}",
        WEIGHTS=f"{footprint.weights:,}",
        FLASH=f"{footprint.flash:,}",
        WORKSPACE=f"{footprint.workspace:,}",
        STATE=state,
        STATIC=f"{footprint.static:,}",
        RAM=f"{footprint.ram:,}",
        SLACK=SLACK,
        INPUT_BYTES=f"{footprint.inputs:,}",
        OUTPUT_BYTES=f"{footprint.outputs:,}",
        RUN=f"{_functions(entries, 'run')} {'are' if len(entries) > 1 else 'is'}",
        RUN_FLOAT=_functions(entries, "run_float"),
        NEEDED=functions or "nothing",
        CALLING=_calling(program),
        LINK=_link(program, target),
        CHECK=_check(program, target),
    )


def _work(entries: Sequence[LoweredProgram]) -> str:
    if not entries[0].entry:
        return f"{entries[0].macs:,}\nmultiply-accumulates in {len(entries[0].steps)} steps"
    steps = [f"{p.macs:,}\nmultiply-accumulates in {len(p.steps)} steps" for p in entries]
    return ", ".join(f"`{p.entry}` of {of}" for p, of in zip(entries, steps, strict=True))


def _functions(entries: Sequence[LoweredProgram], call: str) -> str:
    return ", ".join(f"`{p.c_name}_{call}`" for p in entries)


def _calling(program: LoweredProgram) -> str:
    names = {
        kind: ", ".join(f"{kind}_{i}" for i in range(len(values)))
        for kind, values in (("input", program.inputs), ("output", program.outputs))
    }
    holes = {
        "NAME": program.name,
        "UPPER": program.name.upper(),
        "BUFFERS": _buffers(program),
        "INPUTS": names["input"],
        "OUTPUTS": names["output"],
    }
    if not program.entry:
        return fill("readme/readme_call.md", **holes)
    return fill("readme/readme_calls.md", **holes, ENTRY=program.entry, C_NAME=program.c_name)


def _ports(entries: Sequence[LoweredProgram]) -> str:
    return "\n".join(line for p in entries for line in _ports_of(p))


def _ports_of(program: LoweredProgram) -> Iterator[str]:
    of = f" of `{program.entry}`" if program.entry else ""
    for i, value in enumerate(program.inputs):
        yield f"- input {i}{of} (`{_code(value.name)}`): {description(value)}"
    for i, (value, name) in enumerate(zip(program.outputs, program.output_names, strict=True)):
        yield f"- output {i}{of} (`{_code(name)}`): {description(value)}"


def _code(name: str) -> str:
    """A name from a model, for use between backticks."""
    return printable(name).replace("`", "'")


def _buffers(program: LoweredProgram) -> str:
    slack = f" + {program.name.upper()}_INPUT_SLACK"
    lines = [
        f"static unsigned char input_{i}[{size_bytes(v)}{slack}] ALIGNED;"
        for i, v in enumerate(program.inputs)
    ]
    lines += [
        f"static unsigned char output_{i}[{size_bytes(v)}] ALIGNED;"
        for i, v in enumerate(program.outputs)
    ]
    return "\n".join(lines)


def _compiler(target: Target) -> str:
    """The first toolchain that is a program of its own, else the first."""
    programs = [t for t in candidates_of(target) if t.compiler[0] != PYTHON]
    toolchain = (programs or candidates_of(target))[0]
    words = [
        "python" if word == PYTHON else word for word in (*toolchain.compiler, *toolchain.flags)
    ]
    return " ".join(words)


def _link(program: LoweredProgram, target: Target) -> str:
    name = program.name
    code = f"{name}.c" if generator_of(target).is_text else f"lib{name}.a"
    result = "program" if target.is_hosted else "firmware.elf"
    return f"{_compiler(target)} -O2 main.c {name}_weights.S {code} -o {result}"


def _check(program: LoweredProgram, target: Target) -> str:
    parts = []
    if target.is_hosted:
        parts.append(SELFTEST.format(compiler=_compiler(target), name=program.name))
    if target.emulator:
        parts.append(EMULATE.format(emulator=target.emulator[0]))
    return "\n".join(parts).rstrip()
