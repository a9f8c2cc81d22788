"""One program for several kinds of processor: lowered for each, side by side.

A target without variants gives one program, and everything here leaves it as it is.
"""

from __future__ import annotations

from dataclasses import replace

from qir.backends.lowering.lower import lower
from qir.backends.lowering.program import Program
from qir.backends.lowering.weights import Weights
from qir.ir.graph import Graph
from qir.ir.target import Target


def lowered(graph: Graph, target: Target, name: str) -> tuple[Program, ...]:
    """The program of each variant, in their order; they share one blob of weights.

    A block that several of them read is there once. The workspace of each is the largest of all.
    Errors: LowerError as `lower`.
    """
    if not target.variants:
        return (lower(graph, target, name),)
    weights = Weights(target.alignment)
    programs = [lower(graph, v, name, weights) for v in target.variants]
    return tuple(
        replace(
            program,
            variant=variant,
            weights=weights.blob,
            workspace_bytes=max(p.workspace_bytes for p in programs),
            workspace_bound=max(p.workspace_bound for p in programs),
        )
        for program, variant in zip(programs, target.variants, strict=True)
    )
