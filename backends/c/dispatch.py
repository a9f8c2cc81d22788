"""The C that says which steps run: one table, or one for each variant and the choice among them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qir.backends.c.features import WORDS, needed
from qir.backends.c.portable import printable
from qir.backends.c.template import fill
from qir.backends.lowering.program import Program, Step
from qir.ir.target import Target

THREAD_BYTES = 12_500
"""Bytes moved, or multiply-adds over 32, under which work is not worth a thread: about 1 us."""


def label(variant: Target | None) -> str:
    """The suffix of a variant's names in C; empty for a single program."""
    return "" if variant is None else re.sub(r"\W", "_", variant.name) + "_"


def symbol(program: Program, step: str) -> str:
    """The linker's name of a kernel: no two programs share one."""
    return f"qir_{program.name}_{label(program.variant)}{step}"


def step_name(program: Program, number: int) -> str:
    """The C function that calls the kernel of a step."""
    return f"{label(program.variant)}step_{number}"


def prototypes(programs: Sequence[Program]) -> str:
    """The prototypes of the choice among several programs."""
    variants = [p.variant for p in programs if p.variant is not None]
    if not variants:
        return ""
    name = programs[0].name
    return fill(
        "variants.h",
        NAME=name,
        UPPER=name.upper(),
        COUNT=len(variants),
        LIST="\n".join(
            f" *   {i}: {printable(f'{v.name}, {v.about}')}" for i, v in enumerate(variants)
        ),
    )


def steps(programs: Sequence[Program]) -> str:
    """The tables of steps, and the function that returns the one to run."""
    name = programs[0].name
    first = programs[0].variant
    if first is None:
        return fill("steps.c", UPPER=name.upper(), TABLE=_table(programs[0]))
    return fill(
        "variants.c",
        NAME=name,
        UPPER=name.upper(),
        WORDS=WORDS[first.architecture],
        ASK=fill(f"ask_{first.architecture}.c"),
        TABLES="\n\n".join(
            f"static const struct step {label(p.variant)}steps[] = {{\n{_table(p)}\n}};"
            for p in programs
        ),
        VARIANTS="\n".join(_variant(p) for p in programs),
    )


def _variant(program: Program) -> str:
    assert program.variant is not None
    masks = ", ".join(f"{mask:#x}" for mask in needed(program.variant))
    return f"    {{{{{label(program.variant)}steps, {len(program.steps)}}}, {{{masks}}}}},"


def _table(program: Program) -> str:
    return "\n".join(
        f"    {{{step_name(program, i)}, {s.units}, {grain(s)}}},"
        for i, s in enumerate(program.steps)
    )


def grain(step: Step) -> int:
    """The fewest units that are worth a thread."""
    work = max(step.macs // 32, step.bytes_moved, 1)
    return max(1, min(step.units, -(-THREAD_BYTES * step.units // work)))
