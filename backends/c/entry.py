"""The C around the kernels: the entry that calls them in order, weights and threads."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from qir.backends.c import border, calls, dispatch, portable
from qir.backends.c.dispatch import step_name, symbol
from qir.backends.c.portable import comment, printable
from qir.backends.c.template import fill
from qir.backends.kernels.kernel import RESULTS
from qir.backends.lowering.program import (
    INPUT,
    OUTPUT,
    STATE,
    WEIGHTS,
    Argument,
    LoweredProgram,
    Step,
    size_bytes,
)
from qir.backends.lowering.variants import last_variants
from qir.ir.target import Target

KEYWORDS = frozenset((
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else",
    "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register",
    "restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef",
    "union", "unsigned", "void", "volatile", "while",
))  # fmt: skip


LONGEST_NAME = 99  # and one for what makes it an identifier


def identifier(name: str) -> str:
    """`name` as a C identifier, short enough for names of files; `program` for none."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)[:LONGEST_NAME].rstrip("_")
    if not plain.strip("_"):
        return "program"
    return f"_{plain}" if plain[0].isdigit() or plain in KEYWORDS else plain


def exports(programs: Sequence[LoweredProgram], target: Target) -> tuple[str, ...]:
    """The functions that a shared library shows."""
    name, entries = programs[0].name, last_variants(programs)
    names = [f"{p.c_name}_{call}" for p in entries for call in ("run", "run_float")]
    if target.variants:
        names += [f"{name}_variant", f"{name}_use_variant"]
    if target.is_hosted:
        profiles = [f"{p.c_name}_profile" for p in entries]
        names += [f"{name}_sizes", *profiles, f"{name}_pool_start", f"{name}_pool_stop"]
    if programs[0].entry:
        names.append(f"{name}_reset_state")
    return (*names, *(function for p in entries for function in border.functions(p)))


def entry(programs: Sequence[LoweredProgram], texts: Mapping[str, str]) -> str:
    """NAME.c: NAME_run, or one for each entry, and on a hosted machine NAME_profile.

    `texts`: the kernels themselves, where they are C; empty where they are in an object.
    """
    program, entries = programs[-1], last_variants(programs)
    has_jobs = dispatch.have_jobs(programs)
    prototypes = {symbol(p, s.symbol): _prototype(p, s) for p in programs for s in p.steps}
    return fill(
        "entry/entry.c",
        NAME=program.name,
        UPPER=program.name.upper(),
        FIELD="    unsigned char *state;\n" if program.entry else "",
        KERNELS=portable.kernels(programs, texts) if texts else "\n".join(prototypes.values()),
        FUNCTIONS="\n\n".join(
            _step(p, i, s, texts) for p in programs for i, s in enumerate(p.steps)
        ),
        OF_JOB=dispatch.OF_JOB if has_jobs else "",
        STEPS=dispatch.steps(programs),
        PREPARES="\n".join(map(calls.prepare, entries)),
        JOB=fill("entry/job.c", GRAIN=dispatch.TICKS) if has_jobs else "",
        RUNS="\n".join(calls.run(p, i, has_jobs) for i, p in enumerate(entries))
        + ("\n" + calls.reset(program).rstrip("\n") + "\n" if program.entry else ""),
        PROFILES="\n".join(calls.profile(p, i) for i, p in enumerate(entries)),
        SIZES=_sizes(entries),
    )


COMMON, EACH = 5, 4  # numbers of a whole program, and of an entry, beside its inputs and outputs
SIZES = """\
{count}, QIR_THREADS, {u}_ALIGNMENT, {u}_INPUT_SLACK, {u}_WORKSPACE_BYTES,
        {u}_WEIGHTS_BYTES, """
"""The elements of NAME_sizes that every program has, and then of one without entries:"""
OF_ONE = """\
{u}_STORED_BYTES, {u}_STEPS, {u}_INPUTS,
        {u}_OUTPUTS,
        {ports}"""
OF_MANY = "{u}_STATE_BYTES, {u}_ENTRIES"
OF_EACH = """,
        {m}_STORED_BYTES, {m}_STEPS, {m}_INPUTS, {m}_OUTPUTS,
        {ports}"""


def _sizes(entries: Sequence[LoweredProgram]) -> str:
    """The elements of NAME_sizes, their count the first."""
    upper = entries[0].name.upper()
    ports = [[size_bytes(v) for v in (*p.inputs, *p.outputs)] for p in entries]
    if not entries[0].entry:
        count = COMMON + EACH + len(ports[0])
        return (SIZES + OF_ONE).format(u=upper, count=count, ports=_rows(ports[0]))
    count = COMMON + 2 + sum(EACH + len(sizes) for sizes in ports)
    of_each = [
        OF_EACH.format(m=p.c_name.upper(), ports=_rows(sizes))
        for p, sizes in zip(entries, ports, strict=True)
    ]
    return (SIZES + OF_MANY).format(u=upper, count=count) + "".join(of_each)


def _rows(numbers: Sequence[int]) -> str:
    """Elements of an array, several on a line."""
    return textwrap.fill(", ".join(map(str, numbers)), 84).replace("\n", "\n" + " " * 8)


def _prototype(program: LoweredProgram, step: Step) -> str:
    pointers = ["void *" if a.name in RESULTS else "const void *" for a in step.arguments]
    return f"void {symbol(program, step.symbol)}({', '.join(pointers)}, int32_t, int32_t);"


def _step(program: LoweredProgram, number: int, step: Step, texts: Mapping[str, str]) -> str:
    function = step.symbol if texts else symbol(program, step.symbol)
    arguments = "".join(
        f"        {_pointer(a, bool(texts))}, /* {printable(f'{a.name}: {a.about}')} */\n"
        for a in step.arguments
    )
    place = f" ({step.loc.source})" if step.loc.source else ""
    machine = f"{program.variant}, " if program.variant else ""
    name = step_name(program, number)
    parameters = "const void *context, int32_t begin, int32_t end, int32_t thread"
    return (
        f"{comment(f'{machine}{number}: {step.title}{place}')}\n"
        f"static APART void {name}({parameters}) {{\n"
        f"    const struct call *c = context;\n    (void)thread;\n"
        f"    {function}(\n{arguments}        begin, end);\n}}"
    )


def _pointer(argument: Argument, is_typed: bool) -> str:
    """`is_typed`: the kernel's parameter points to elements, not to bytes."""
    address = argument.address
    bases = {
        INPUT: f"(const unsigned char *)c->inputs[{address.index}]",
        OUTPUT: f"(unsigned char *)c->outputs[{address.index}]",
        WEIGHTS: "c->weights",
        STATE: "c->state",
    }
    place = f"{bases.get(address.space, 'c->workspace')} + {address.offset}"
    const = "" if argument.name in RESULTS else "const "
    return f"({const}void *)({place})" if is_typed else place


def weights(program: LoweredProgram) -> str:
    """NAME_weights.S: weights.bin as read-only data."""
    return fill("weights.S", NAME=program.name)


def pool(program: LoweredProgram) -> str:
    """NAME_pool.c: threads for hosted programs."""
    return fill("pool.c", NAME=program.name)
