"""The C that says which steps run: one table, or one for each variant and the choice among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from qir.backends.c.calls import local
from qir.backends.c.features import WORDS, required_bits
from qir.backends.c.portable import printable
from qir.backends.c.template import fill
from qir.backends.lowering.program import LoweredProgram, Step
from qir.backends.lowering.variants import by_entry
from qir.ir.target import Target

THREAD_BYTES = 12_500
"""Bytes moved, or multiply-adds over 32, under which work is not worth a thread: about 1 us."""
TICKS = 8
"""The parts of that work in which jobs are counted."""
MOST_TICKS = 1 << 20
"""Of a step, so that those of a job fit 31 bits."""
OF_JOB = """\
    int32_t together, ticks; /* steps of its job; its work */
    int64_t pace;            /* units of a tick, times 2**32 */
"""
"""What a step is besides, where there are jobs."""


def label(variant: Target | None) -> str:
    """The suffix of a variant's names in C; empty for a single program."""
    return "" if variant is None else re.sub(r"\W", "_", variant.name) + "_"


def symbol(program: LoweredProgram, step: str) -> str:
    """The linker's name of a kernel: no two programs share one."""
    return f"qir_{program.name}_{label(program.variant)}{step}"


def step_name(program: LoweredProgram, number: int) -> str:
    """The C function that calls the kernel of a step."""
    return f"{local(program)}{label(program.variant)}step_{number}"


def prototypes(programs: Sequence[LoweredProgram]) -> str:
    """The prototypes of the choice among several programs."""
    variants = [p.variant for p in by_entry(programs)[0] if p.variant is not None]
    if not variants:
        return ""
    name = programs[0].name
    return fill(
        "header/variants.h",
        NAME=name,
        UPPER=name.upper(),
        COUNT=len(variants),
        LIST="\n".join(
            f" *   {i}: {printable(f'{v.name}, {v.about}')}" for i, v in enumerate(variants)
        ),
    )


def steps(programs: Sequence[LoweredProgram]) -> str:
    """The tables of steps, and the function that returns the one to run."""
    program, entries = programs[0], by_entry(programs)
    has_jobs = have_jobs(programs)
    tables = "\n\n".join(
        f"static const struct step {_table_name(p)}[] = {{\n{_table(p, has_jobs)}\n}};"
        for p in programs
    )
    if program.variant is None:
        if not program.entry:
            table = _table(program, has_jobs)
            return fill("entry/steps.c", UPPER=program.name.upper(), TABLE=table)
        return fill("entry/entries_steps.c", TABLES=tables, ORDERS=", ".join(map(_order, programs)))
    architecture = program.variant.architecture
    return fill(
        "entry/variants.c",
        NAME=program.name,
        UPPER=program.name.upper(),
        WORDS=WORDS[architecture],
        ASK=fill(f"entry/ask_{architecture}.c"),
        TABLES=tables,
        VARIANTS="\n".join(_variant(of_one) for of_one in zip(*entries, strict=True)),
        ORDERS=f"orders[{len(entries)}]" if program.entry else "order",
        WHICH="int entry" if program.entry else "void",
        TAKEN="orders[entry]" if program.entry else "order",
    )


def _table_name(program: LoweredProgram) -> str:
    """The table of a program's steps."""
    return f"{local(program)}{label(program.variant)}steps"


def _order(program: LoweredProgram) -> str:
    return f"{{{_table_name(program)}, {len(program.steps)}}}"


def _variant(programs: Sequence[LoweredProgram]) -> str:
    """One variant: the order of steps of each entry, and what the machine needs."""
    program = programs[0]
    assert program.variant is not None
    masks = ", ".join(f"{mask:#x}" for mask in required_bits(program.variant))
    orders = ", ".join(map(_order, programs))
    return f"    {{{f'{{{orders}}}' if program.entry else orders}, {{{masks}}}}},"


def _table(program: LoweredProgram, has_jobs: bool) -> str:
    rows = [f"{step_name(program, i)}, {s.units}, {grain(s)}" for i, s in enumerate(program.steps)]
    if has_jobs:
        counts = Counter(s.job for s in program.steps)
        of_jobs = [f"{counts[s.job]}, {ticks(s)}, {pace(s)}" for s in program.steps]
        rows = [f"{row}, {more}" for row, more in zip(rows, of_jobs, strict=True)]
    return "\n".join(f"    {{{row}}}," for row in rows)


def have_jobs(programs: Sequence[LoweredProgram]) -> bool:
    """Whether steps of some program may run at the same time."""
    return any(program.has_jobs for program in programs)


def _work(step: Step) -> int:
    """In bytes moved."""
    return max(step.macs // 32, step.bytes_moved, 1)


def grain(step: Step) -> int:
    """The fewest units that are worth a thread."""
    return max(1, min(step.units, -(-THREAD_BYTES * step.units // _work(step))))


def ticks(step: Step) -> int:
    """The work of a step as one of several in a job."""
    return max(1, min(MOST_TICKS, TICKS * _work(step) // THREAD_BYTES))


def pace(step: Step) -> int:
    """The units of a tick, times 2**32."""
    return (step.units << 32) // ticks(step)
