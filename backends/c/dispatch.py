"""The C that says which steps run: one table, or one for each variant and the choice among them."""

from __future__ import annotations

import re
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
    tables = "\n\n".join(
        f"static const struct step {_table_name(p)}[] = {{\n{_table(p)}\n}};" for p in programs
    )
    if program.variant is None:
        if not program.entry:
            return fill("entry/steps.c", UPPER=program.name.upper(), TABLE=_table(program))
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


def _table(program: LoweredProgram) -> str:
    return "\n".join(
        f"    {{{step_name(program, i)}, {s.units}, {grain(s)}}},"
        for i, s in enumerate(program.steps)
    )


def grain(step: Step) -> int:
    """The fewest units that are worth a thread."""
    work = max(step.macs // 32, step.bytes_moved, 1)
    return max(1, min(step.units, -(-THREAD_BYTES * step.units // work)))
