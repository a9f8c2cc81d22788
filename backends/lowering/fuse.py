"""Groups of ops that one kernel computes: an anchor, and the requantize of its accumulator.

Kernels of ops that accumulate end in an epilogue, so that no accumulator is stored; that of a layer
can add a second tensor, and takes its numbers by channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qir.ir.fixed import Rounding
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Requantize, ScaleGroups
from qir.ir.ops.kinds import Layer
from qir.ir.types import Quant

NARROW = ("uint8", "int8", "int16")
"""What an epilogue stores, and reads as a residual."""


@dataclass(frozen=True)
class Fusion:
    """`anchor` alone, or with `tail`, the only reader of its result.

    `residual` is the tail's other operand.
    """

    anchor: Op
    tail: Requantize | None = None
    residual: Value | None = None

    @property
    def ops(self) -> tuple[Op, ...]:
        return (self.anchor,) if self.tail is None else (self.anchor, self.tail)

    @property
    def result(self) -> Value:
        return self.ops[-1].result

    @property
    def operands(self) -> tuple[Value, ...]:
        """The operands of the kernel, without the constants it is built with."""
        return self.anchor.operands + (() if self.residual is None else (self.residual,))

    @property
    def accumulator_at(self) -> int:
        """Which operand of the tail the anchor's result is."""
        assert self.tail is not None
        return self.tail.xs.index(self.anchor.result)

    def __str__(self) -> str:
        return " + ".join(f"{op.mnemonic} %{op.names[0]}" for op in self.ops)


def fuse(graph: Graph) -> tuple[Fusion, ...]:
    """Every op but the constants in one fusion; fusions in an order in which they can run."""
    tails: dict[str, Fusion] = {}  # by the tail's result
    fused: set[str] = set()
    outputs = {v.name for v in graph.outputs}
    for op in graph.ops:
        if isinstance(op, Requantize):
            for at in range(len(op.xs)):
                fusion = _with_tail(graph, op, at, outputs)
                if fusion is not None:
                    tails[op.names[0]] = fusion
                    fused.add(fusion.anchor.names[0])
                    break
    fusions = []
    for op in graph.ops:
        if op.names[0] not in fused and not isinstance(op, (Constant, ScaleGroups)):
            fusions.append(tails.get(op.names[0], Fusion(op)))
    return tuple(fusions)


def _with_tail(graph: Graph, tail: Requantize, at: int, outputs: set[str]) -> Fusion | None:
    """The fusion of the producer of operand `at` and `tail`, if one kernel can do both exactly."""
    acc = tail.xs[at]
    anchor = graph.producers.get(acc.name)
    if anchor is None or not anchor.accumulates:
        return None
    if acc.name in outputs or len(graph.users[acc.name]) != 1:
        return None
    if not tail.to.has_one_zero_point or tail.result.type.shape != acc.type.shape:
        return None
    if isinstance(anchor, Layer) and not _suits_layer(tail):
        return None
    others = [x for i, x in enumerate(tail.xs) if i != at]
    if not others:
        return Fusion(anchor, tail)
    if len(others) > 1 or not isinstance(anchor, Layer) or not _can_be_residual(others[0], acc):
        return None
    return Fusion(anchor, tail, others[0])


def _suits_layer(tail: Requantize) -> bool:
    """Half up, to at most 16 bits, by one multiplier or one for each channel, none negative."""
    numbers = [data.array for data in (*tail.mult, tail.shift)]
    by_channel = all(a.ndim <= 1 and bool(np.all(a >= 0)) for a in numbers)
    return tail.rounding is Rounding.HALF_UP and str(tail.to.carrier) in NARROW and by_channel


def _can_be_residual(value: Value, acc: Value) -> bool:
    q = value.type.elem
    return (
        isinstance(q, Quant)
        and q.is_per_tensor
        and str(q.carrier) in NARROW
        and value.type.shape == acc.type.shape
    )


def constants(graph: Graph) -> Mapping[str, Constant]:
    """The constants of a graph by the name of their value, weights with their groups scaled too."""
    found: dict[str, Constant] = {}
    for op in graph.ops:
        if isinstance(op, Constant):
            found[op.names[0]] = op
        elif isinstance(op, ScaleGroups):
            w, mult = (found[v.name].value.array for v in op.operands)
            found[op.names[0]] = Constant.of(op.evaluate(w, mult), op.result.type.elem)
    return found


def grouped(graph: Graph) -> Mapping[str, ScaleGroups]:
    """The ops that scale weights by group, by the name of their result."""
    return {op.names[0]: op for op in graph.ops if isinstance(op, ScaleGroups)}
