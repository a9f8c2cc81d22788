"""The programs of an artifact: one for each entry and kind of processor, lowered side by side.

One graph for a target without variants gives one program, and everything here leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qir.backends.lowering.lower import lower
from qir.backends.lowering.program import LoweredProgram
from qir.backends.lowering.shared import Shared
from qir.ir.graph import Graph
from qir.ir.target import Target


def lower_all(
    graphs: Graph | Mapping[str, Graph], target: Target, name: str
) -> tuple[LoweredProgram, ...]:
    """The program of each variant, in their order, for each entry in turn.

    They share one blob of weights, in which a block that several read is there once, and the
    states of equal names. The workspace of each is the largest of all.
    Errors: LowerError as `lower`, VerifyError for states that differ.
    """
    entries = {"": graphs} if isinstance(graphs, Graph) else graphs
    shared = Shared.of(entries.values(), target.alignment)
    variants: dict[tuple[str, int], LoweredProgram] = {}
    for number, machine in enumerate(target.variants or (target,)):
        blocks = shared.for_machine()
        variant = machine if target.variants else None
        for entry, graph in entries.items():
            program = lower(graph, machine, name, blocks)
            variants[entry, number] = replace(program, entry=entry, variant=variant)
    order, weights = {entry: at for at, entry in enumerate(entries)}, shared.weights.blob
    return tuple(
        replace(
            variants[key],
            weights=weights,
            workspace_bytes=max(p.workspace_bytes for p in variants.values()),
            workspace_bound=max(p.workspace_bound for p in variants.values()),
        )
        for key in sorted(variants, key=lambda key: (order[key[0]], key[1]))
    )


def by_entry(programs: Sequence[LoweredProgram]) -> list[list[LoweredProgram]]:
    """The programs of each entry, for its variants."""
    entries: dict[str, list[LoweredProgram]] = {}
    for program in programs:
        entries.setdefault(program.entry, []).append(program)
    return list(entries.values())


def last_variants(programs: Sequence[LoweredProgram]) -> list[LoweredProgram]:
    """The program of each entry for its last variant, which stands for what all have in common."""
    return [of_one[-1] for of_one in by_entry(programs)]
