"""Gated products rotated at run time, in front of the linear ops that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Hadamard, Linear, Mul
from qir.ir.ops.sequence.hadamard import LARGEST
from qir.ir.ops.sequence.matrices import factors, signs
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.blocks.turned_weights import with_turned_weights
from qir.passes.transform.outliers.tie_classes import of_product


@register
@dataclass(frozen=True)
class RotateProducts(Pass):
    """linear(a * b, w) -> linear(hadamard(a * b), w @ H), H of blocks of the greatest size there is

    What a gate lets pass has outliers of single tokens, which no factor of a channel removes.
    `products`: the names of those that are rotated; all, if none is named.
    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4, stage 1c; SpinQuant, arXiv:2405.16406 (R4).
    """

    name: ClassVar[str] = "rotate-products"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    products: tuple[str, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        sizes: dict[str, int] = {}  # of layers, by name
        for op in graph.ops:
            if not isinstance(op, Mul) or (self.products and op.names[0] not in self.products):
                continue
            one = of_product(graph, op)
            if isinstance(one, Miss):
                record.misses.append(one)
            else:
                size = greatest_block(one.width)
                sizes.update({layer.names[0]: size for layer in one.consumers})
        record.rewrites = len(sizes)
        columns: dict[str, Callable[[Array], Array]] = {
            name: partial(by_blocks, matrix=hadamard_matrix(size)) for name, size in sizes.items()
        }
        made: dict[str, Value] = {}  # by the value that is rotated

        def read(op: Op, builder: Builder) -> Op:
            if op.names[0] not in sizes or not isinstance(op, Linear):
                return op
            if op.x.name not in made:
                rotated = Hadamard(op.x, sizes[op.names[0]], loc=op.loc.touched(self.name))
                made[op.x.name] = builder.add(rotated, f"{op.x.name}_rotated")
            return replace(op, x=made[op.x.name])

        return with_turned_weights(graph, {}, columns, self.name).mapped(read)


def by_blocks(x: Any, matrix: Any) -> Any:
    """Blocks of the last axis times a matrix, both of numpy or both of torch."""
    return (x.reshape(*x.shape[:-1], -1, len(matrix)) @ matrix).reshape(x.shape)


def hadamard_matrix(size: int) -> Array:
    """The Hadamard matrix over its root: symmetric and orthogonal, its own inverse."""
    return np.asarray(signs(size) / np.sqrt(size))


def greatest_block(width: int) -> int:
    """The greatest divisor of a width that has a Hadamard matrix."""
    fits = (d for d in range(min(width, LARGEST), 0, -1) if width % d == 0 and factors(d))
    return next(fits)
