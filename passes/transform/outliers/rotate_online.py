"""Rotations that are computed at run time: of queries and keys, and of what linear ops read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Hadamard, Linear, Mul
from qir.ir.ops.sequence.hadamard import LARGEST
from qir.ir.ops.sequence.matrices import factors, signs
from qir.ir.stages import FLOAT_STAGES
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.outliers.rotate_values import turned
from qir.passes.transform.outliers.tie_classes import TieClass, of_product


@register
@dataclass(frozen=True)
class RotateKeys(Pass):
    """attention(q, k, v) -> attention(hadamard(q), hadamard(k), v), by heads, behind rope

    Scores stay, for H @ H = 1; each channel of a query and of a key is a mean of all of its head.
    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4, stage 2c; SpinQuant, arXiv:2405.16406 (R3).
    """

    name: ClassVar[str] = "rotate-keys"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        def rotated(op: Op, builder: Builder) -> Op:
            if not isinstance(op, Attention):
                return op
            size = op.k.type.shape[-1] // op.kv_heads
            if factors(size) is None or size > LARGEST:
                why = f"heads of {size} channels have no Hadamard matrix"
                record.misses.append(Miss(why, op.names[0]))
                return op
            record.rewrites += 1
            loc = op.loc.touched(self.name)
            q, k = (
                builder.add(Hadamard(x, size, loc=loc), f"{x.name}_rotated") for x in (op.q, op.k)
            )
            return replace(op, q=q, k=k)

        return graph.mapped(rotated)


@register
@dataclass(frozen=True)
class RotateProducts(Pass):
    """linear(a * b, w) -> linear(hadamard(a * b), w @ H), H of blocks of the greatest size there is

    What a gate lets pass has outliers of single tokens, which no factor of a channel removes.
    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4, stage 1c; SpinQuant, arXiv:2405.16406 (R4).
    """

    name: ClassVar[str] = "rotate-products"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        sizes: dict[str, int] = {}  # of layers, by name
        for op in graph.ops:
            one = of_product(graph, op) if isinstance(op, Mul) else None
            if isinstance(one, Miss):
                record.misses.append(one)
            elif isinstance(one, TieClass):
                size = greatest_block(one.width)
                sizes.update({layer.names[0]: size for layer in one.consumers})
        record.rewrites = len(sizes)
        columns = {name: signs(size) / np.sqrt(size) for name, size in sizes.items()}
        made: dict[str, Value] = {}  # by the value that is rotated

        def read(op: Op, builder: Builder) -> Op:
            if op.names[0] not in sizes or not isinstance(op, Linear):
                return op
            if op.x.name not in made:
                rotated = Hadamard(op.x, sizes[op.names[0]], loc=op.loc.touched(self.name))
                made[op.x.name] = builder.add(rotated, f"{op.x.name}_rotated")
            return replace(op, x=made[op.x.name])

        return turned(graph, {}, columns, self.name).mapped(read)


def greatest_block(width: int) -> int:
    """The greatest divisor of a width that has a Hadamard matrix."""
    fits = (d for d in range(min(width, LARGEST), 0, -1) if width % d == 0 and factors(d))
    return next(fits)
