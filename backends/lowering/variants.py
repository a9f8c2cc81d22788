"""One program for several kinds of processor: lowered and compiled for each, side by side.

A target without variants gives one program, and everything here leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from qir.backends.c.dispatch import symbol
from qir.backends.kernels.kernel import Code
from qir.backends.lowering.lower import lower
from qir.backends.lowering.program import Program
from qir.backends.lowering.weights import Weights
from qir.backends.toolchain.compile import Compiled, compile_kernels
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


def compiled(programs: Sequence[Program], target: Target) -> Compiled:
    """The kernels of all the programs, each for its own machine."""
    parts = [compile_kernels(_codes(p, target), p.variant or target) for p in programs]
    if len(parts) == 1:
        return parts[0]
    objects = {
        f"variant{number}_{file}": content
        for number, part in enumerate(parts)
        for file, content in part.objects.items()
    }
    checked = tuple(chain.from_iterable(part.checked for part in parts))
    return replace(parts[0], objects=objects, checked=checked)


def _codes(program: Program, target: Target) -> Mapping[str, Code]:
    """The code of each kernel by the linker's name; in C they are static, so short names do."""
    is_c = target.generator == "c"
    return {s if is_c else symbol(program, s): code for s, code in program.codes.items()}
