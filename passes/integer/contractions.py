"""Convolutions and matrix products: exact i32 accumulators, with the bias in their units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qir.ir.fixed import Rounding, round_real
from qir.ir.op import Value
from qir.ir.ops import Constant, MatMul, ScaleGroups
from qir.ir.ops.kinds import Layer
from qir.ir.types import I32, Array, Quant
from qir.passes.integer.forms import Fixed, Form, Lowering, NoInteger, Stored, Sum, Term, rule


@rule(Layer)
def contraction(op: Layer, at: Lowering) -> Form:
    """conv(x, w, b) -> sum(conv on stored x and w, bias = half_up(b / (sx * sw)) as i32)"""
    x, w = at.stored(op.x), weights(op.w, at)
    scale = x.type.quant.scale.array * w.type.quant.scale.array
    bias = None if op.bias is None else integer_bias(op, op.bias, scale, at)
    return Sum((Term(at.accumulator(replace(op, x=x, w=w, bias=bias), op)),), loc=op.loc)


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
def scaled_groups(op: ScaleGroups, at: Lowering) -> Form:
    """scale_groups(w, mult) stays as it is: its result is stored integers"""
    operands = [at.forms[v.name] for v in op.operands]
    if not all(isinstance(form, Stored) for form in operands):
        raise NoInteger(f"{op}: its operands are computed, constants are needed")
    w, mult = (form.value for form in operands if isinstance(form, Stored))
    return Stored(at.emit(replace(op, w=w, mult=mult), op.names[0], op.loc))


def integer_bias(op: Layer, bias: Value, scale: Array, at: Lowering) -> Value:
    """The bias in steps of the accumulator; NoInteger when it does not fit i32."""
    form = at.forms[bias.name]
    if isinstance(form, Stored):
        producer = at.builder.producer(form.value)
        if not isinstance(producer, Constant):
            raise NoInteger(f"bias {bias} is computed, a constant is needed")
        quant = form.value.type.quant
        s, z = quant.spread(producer.value.shape)
        form = Fixed((producer.value.array.astype(np.int64) - z) * s)
    if not isinstance(form, Fixed):
        raise NoInteger(f"bias {bias} is computed, a constant is needed")
    steps = round_real(form.reals / scale, Rounding.HALF_UP)
    if steps.size and np.abs(steps).max() > I32.max:
        worst = int(np.argmax(np.abs(steps)))
        raise NoInteger(
            f"bias {form.reals[worst]:g} of channel {worst} is {steps[worst]:g} accumulator steps,"
            f" at most {I32.max} fit"
        )
    if scale.ndim == 0:
        quant = Quant.per_tensor(I32, float(scale), 0)
    else:
        quant = Quant.per_axis(I32, scale, 0, axis=0)
    return at.emit(Constant.of(steps.astype(np.int32), quant), f"{op.names[0]}_bias", op.loc)


@rule(MatMul)
def matmul(op: MatMul, at: Lowering) -> Form:
    """matmul(a, b) -> sum(matmul on stored a and b)"""
    return Sum(
        (Term(at.accumulator(replace(op, a=at.stored(op.a), b=at.stored(op.b)), op)),), loc=op.loc
    )
