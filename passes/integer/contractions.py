"""Convolutions and matrix products: exact i32 accumulators, with the bias in their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qir.ir.fixed import Rounding, round_real
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Linear, MatMul, ScaleGroups
from qir.ir.ops.kinds import Layer
from qir.ir.types import I32, Array, Quant
from qir.passes.integer.forms import Form, Lowering, NoInteger, Rows, RowSum, Stored, Sum, Term
from qir.passes.integer.rules import (
    Answer,
    Kind,
    Needs,
    Operand,
    Rule,
    as_stored,
    rule,
    stored_operands,
)


@rule(Layer)
class Layers(Rule):
    """conv(x, w, b) -> sum(conv on stored x and w, bias = half_up(b / (sx * sw)) as i32)

    linear(rows, w, b) -> sum of rows(linear on their codes and stored w) + b
    """

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        x, w, *rest = operands
        for bias in rest:
            if not bias.is_known:
                raise NoInteger(f"bias {bias.value} is computed, a constant is needed")
        is_rows = x.kind is Kind.ROWS and isinstance(op, Linear)
        missing = [0] if not (x.is_stored or is_rows) else []
        if not (w.is_stored or w.is_known):
            missing.append(1)
        if missing:
            return Needs(tuple(missing))
        if is_rows:
            return Answer(Kind.ROW_SUM)
        stored_operands([x])
        return Answer(Kind.SUM)

    def lower(self, op: Layer, at: Lowering, answer: Answer) -> Form:
        if isinstance(rows := at.forms[op.x.name], Rows):
            return sum_of_rows(op, rows, at)
        x, w = at.stored(op.x), weights(op.w, at)
        scale = x.type.quant.scale.array * w.type.quant.scale.array
        bias = None if op.bias is None else integer_bias(op, op.bias, scale, at)
        return Sum((Term(at.accumulator(replace(op, x=x, w=w, bias=bias), op)),), loc=op.loc)


def sum_of_rows(op: Layer, rows: Rows, at: Lowering) -> RowSum:
    if rows.block != op.x.type.shape[-1]:
        raise NoInteger(f"rows {op.x} have a scale for each {rows.block}, one for all is needed")
    product = replace(op, x=rows.codes, w=weights(op.w, at), bias=None)
    bias = None if op.bias is None else at.reals(op.bias)
    return RowSum(at.accumulator(product, op), rows.scale, bias, loc=op.loc)


def weights(w: Value, at: Lowering) -> Value:
    form = at.forms[w.name]
    if not isinstance(form, Stored):
        raise NoInteger(f"weights {w} are not quantized")
    elem = form.value.type.elem
    is_grouped = isinstance(at.builder.producer(form.value), ScaleGroups)
    if not isinstance(elem, Quant) or (elem.storage.bits > 8 and not is_grouped):
        raise NoInteger(f"weights {w} are {elem}, at most 8 bits are needed")
    if elem.axis not in (None, 0) or elem.block is not None:
        raise NoInteger(f"weights {w} are quantized along axis {elem.axis}, axis 0 is needed")
    return form.value


@rule(ScaleGroups)
class Groups(Rule):
    """scale_groups(w, mult) on constants: its result is stored integers"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if not all(operand.is_stored and operand.is_known for operand in operands):
            raise NoInteger("its operands are computed, constants are needed")
        return Answer(Kind.STORED, elem=op.result.type.elem, is_known=True)

    def lower(self, op: ScaleGroups, at: Lowering, answer: Answer) -> Form:
        w, mult = (form.value for v in op.operands if isinstance(form := at.forms[v.name], Stored))
        return Stored(at.emit(replace(op, w=w, mult=mult), op.names[0], op.loc), is_known=True)


def integer_bias(op: Layer, bias: Value, scale: Array, at: Lowering) -> Value:
    """The bias in steps of the accumulator; NoInteger when it does not fit i32."""
    reals = at.reals(bias)
    steps = round_real(reals / scale, Rounding.HALF_UP)
    if steps.size and np.abs(steps).max() > I32.max:
        worst = int(np.argmax(np.abs(steps)))
        raise NoInteger(
            f"bias {reals[worst]:g} of channel {worst} is {steps[worst]:g} accumulator steps,"
            f" at most {I32.max} fit"
        )
    if scale.ndim == 0:
        quant = Quant.per_tensor(I32, float(scale), 0)
    else:
        quant = Quant.per_axis(I32, scale, 0, axis=0)
    return at.emit(Constant.of(steps.astype(np.int32), quant), f"{op.names[0]}_bias", op.loc)


@rule(MatMul)
class Products(Rule):
    """matmul(a, b) -> sum(matmul on stored a and b)"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        return as_stored(operands, Kind.SUM)

    def lower(self, op: MatMul, at: Lowering, answer: Answer) -> Form:
        product = replace(op, a=at.stored(op.a), b=at.stored(op.b))
        return Sum((Term(at.accumulator(product, op)),), loc=op.loc)
