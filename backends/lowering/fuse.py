"""Groups of ops that one kernel computes: an anchor, and the requantize of its accumulator.

Kernels of ops that accumulate end in an epilogue, so that no accumulator is stored; that of a layer
can add a second tensor, and takes its numbers by channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from qir.ir.fixed import Rounding
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Constant,
    Interpolate,
    Linear,
    QuantizeRows,
    Requantize,
    RowScale,
    ScaleGroups,
    ScaleRows,
)
from qir.ir.ops.kinds import Layer
from qir.ir.ops.sequence.rows import FRACTION
from qir.ir.types import Quant

NARROW = ("uint8", "int8", "int16")
"""What an epilogue stores, and reads as a residual."""
CODES = ("uint8", "int8")
"""What dot instructions read."""
MOST_ADDED = 1 << 59
"""Kernels add it twice to a product that leaves 2**61 of 64 bits."""


@dataclass(frozen=True)
class Coded:
    """The scales of rows and their codes; `keeps_elements`: others read the elements too."""

    scale: RowScale
    codes: QuantizeRows
    keeps_elements: bool = False


@dataclass(frozen=True)
class Fusion:
    """`anchor` alone, or with `tail`, the only reader of its result.

    `residual` is the tail's other operand. In place of a requantize, `rows` may scale the sums by
    rows: then its residual is `residual`. `coded`: what makes codes of the anchor's result; the
    anchor may be its scale. `curve`: what gives the first operand of an anchor whose codes are
    made.
    """

    anchor: Op
    tail: Requantize | None = None
    residual: Value | None = None
    rows: ScaleRows | None = None
    coded: Coded | None = None
    curve: Interpolate | None = None

    @property
    def ops(self) -> tuple[Op, ...]:
        last = self.tail or self.rows
        ops = (self.anchor,) if last is None else (self.anchor, last)
        if self.coded is not None:
            more = (self.coded.scale, self.coded.codes)
            ops = (*ops, *(op for op in more if op is not self.anchor))
        return ops if self.curve is None else (self.curve, *ops)

    @property
    def result(self) -> Value:
        return self.ops[-1].result

    @property
    def results(self) -> tuple[Value, ...]:
        """All that the kernel writes."""
        if self.coded is None:
            return (self.result,)
        elements = (self.anchor.result,) if self.coded.keeps_elements else ()
        return (self.result, self.coded.scale.result, *elements)

    @property
    def operands(self) -> tuple[Value, ...]:
        """The operands of the kernel, without the constants it is built with."""
        scale = () if self.rows is None else (self.rows.scale,)
        operands = self.anchor.operands
        if self.curve is not None:
            operands = tuple(self.curve.x if v == self.curve.result else v for v in operands)
        return operands + scale + (() if self.residual is None else (self.residual,))

    @property
    def accumulator_at(self) -> int:
        """Which operand of the tail the anchor's result is."""
        assert self.tail is not None
        return self.tail.xs.index(self.anchor.result)

    def __str__(self) -> str:
        return " + ".join(f"{op.mnemonic} %{op.names[0]}" for op in self.ops)


def fuse(graph: Graph, by_rows: bool = True) -> tuple[Fusion, ...]:
    """Every op but the constants in one fusion; fusions in an order in which they can run.

    `by_rows`: kernels of layers can end in a scale_rows.
    """
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
        elif isinstance(op, ScaleRows) and by_rows:
            fusion = _with_rows(graph, op, outputs)
            if fusion is not None:
                tails[op.names[0]] = fusion
                fused.add(fusion.anchor.names[0])
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


def _with_rows(graph: Graph, rows: ScaleRows, outputs: set[str]) -> Fusion | None:
    """The fusion of the layer of codes that gives the sums of `rows`, if nobody else reads them."""
    anchor = graph.producers.get(rows.x.name)
    if not isinstance(anchor, Linear) or rows.x.name in outputs or rows.x == rows.residual:
        return None
    maker = graph.producers.get(anchor.w.name)
    weights = anchor.w if not isinstance(maker, ScaleGroups) else maker.w
    q = weights.type.quant
    is_narrow = q.storage.bits <= 8 and q.storage.is_signed and not np.any(q.zero_point.array)
    is_constant = isinstance(maker, Constant | ScaleGroups)
    if not is_narrow or not is_constant or str(anchor.x.type.elem.carrier) not in CODES:
        return None
    if len(graph.users[rows.x.name]) != 1 or _addend_bound(rows) >= MOST_ADDED:
        return None
    return Fusion(anchor, None, rows.residual, rows)


def _addend_bound(rows: ScaleRows) -> int:
    """A bound on what is added to a scaled sum, in its steps."""
    bias = 0 if rows.bias is None else int(np.abs(rows.bias.array).max(initial=0))
    if rows.residual is None:
        return bias
    reach = 1 << rows.residual.type.quant.storage.bits
    return bias + (reach * rows.residual_mult >> rows.residual_shift - FRACTION)


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
    by_name: dict[str, Constant] = {}
    for op in graph.ops:
        if isinstance(op, Constant):
            by_name[op.names[0]] = op
        elif isinstance(op, ScaleGroups):
            w, mult = (by_name[v.name].value.array for v in op.operands)
            by_name[op.names[0]] = Constant.of(op.evaluate(w, mult), op.result.type.elem)
    return by_name


def grouped(graph: Graph) -> Mapping[str, ScaleGroups]:
    """The ops that scale weights by group, by the name of their result."""
    return {op.names[0]: op for op in graph.ops if isinstance(op, ScaleGroups)}


def layers(fusions: Iterable[Fusion]) -> Mapping[str, Fusion]:
    """The fusions of linear layers by the name of their weights."""
    return {f.anchor.w.name: f for f in fusions if isinstance(f.anchor, Linear)}
