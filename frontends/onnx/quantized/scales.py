"""Scales and zero points of the model as quantized types; conversion of stored integers."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import (
    STORED,
    ConstantOperand,
    Operand,
    as_float,
    shape_of,
    stored_int,
)
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.fixed import Rounding
from qir.ir.op import Value
from qir.ir.types import I32, Array, Int, Quant

ROUNDING = Rounding.HALF_EVEN  # ONNX QuantizeLinear rounds ties to even


def parameters(
    ctx: ImportContext,
    index: int,
    shape: tuple[int, ...],
    storage: Int | None = None,
    axis: int = 0,
    block: int = 0,
) -> Quant:
    """The type that a scale (input `index`) and a zero point (the next) give a tensor of `shape`.

    `storage` is that of the zero point, by default u8 where there is none. `axis` counts where the
    scale is a vector, `block` where it has the rank of the tensor.
    """
    scale = scale_at(ctx, index)
    zero = ctx.array(index + 1, "the zero point")
    if zero is not None:
        storage = storage_of(ctx, zero)
    return quant_of(ctx, scale, zero, storage or STORED["uint8"], shape, axis, block)


def quant_of(
    ctx: ImportContext,
    scale: Array,
    zero: Array | None,
    storage: Int,
    shape: tuple[int, ...],
    axis: int,
    block: int = 0,
) -> Quant:
    """Per tensor for one scale, per slice of `axis` for a vector, per block for a full array."""
    wide = np.asarray(scale, np.float64)
    if wide.size == 0 or not (np.all(np.isfinite(wide)) and np.all(wide >= 0)):
        problem = f"scale reaches {wide.min()}" if wide.size else "an empty scale"
        ctx.refuse(problem, "finite scales of at least 0 are needed")
    wide = live_scale(wide)
    zeros = np.zeros(wide.shape, np.int64) if zero is None else zero.astype(np.int64)
    if zeros.size == 1:
        zeros = np.broadcast_to(zeros.reshape(()), wide.shape)
    if wide.size == 1 and not block:
        return Quant.per_tensor(storage, float(wide.reshape(())), int(zeros.reshape(())))
    if zeros.shape != wide.shape:
        ctx.refuse(
            f"scale {list(wide.shape)}, zero point {list(zeros.shape)}", "one shape is needed"
        )
    axis = ctx.axis(axis, len(shape))
    if block:
        return Quant(storage, Data(wide), Data(zeros), axis, block)
    if wide.shape != (shape[axis],):
        ctx.refuse(
            f"scale {list(wide.shape)} along axis {axis} of {list(shape)}", "one each is needed"
        )
    return Quant(storage, Data(wide), Data(zeros), axis)


def live_scale(scale: Array) -> Array:
    """`scale` with the largest one in place of each 0, 1/128 where all are 0.

    A scale of 0 is that of a dead slice, all of whose reals are 0: `cleared` makes them so. What
    is multiplied by it (the bias of a dead channel) keeps a step as fine as its siblings'.
    """
    return np.where(scale == 0, scale.max() or 2.0**-7, scale)


def cleared(
    ctx: ImportContext, x: Operand, scale: Array, shape: tuple[int, ...], axis: int, block: int = 0
) -> Operand:
    """Reals x with zeros in the slices whose scale is 0, as DequantizeLinear has them."""
    if np.all(scale != 0):
        return x
    live = (np.asarray(scale) != 0).astype(np.float32)
    if live.size == 1 and not block:
        live = live.reshape(())
    elif block:
        live = np.repeat(live, block, ctx.axis(axis, len(shape)))[tuple(map(slice, shape))]
    else:
        wide = [1] * len(shape)
        wide[ctx.axis(axis, len(shape))] = -1
        live = live.reshape(wide)
    if isinstance(x, Value):
        return ctx.emit(ops.Mul(x, ctx.constant(live, "live")))
    if x.quant is None:
        return ConstantOperand(as_float(x.array) * live, x.name)
    zero = x.quant.spread(shape)[1].astype(x.array.dtype)
    return ConstantOperand(np.where(live != 0, x.array, zero), x.name, x.quant)


def storage_of(ctx: ImportContext, array: Array) -> Int:
    storage = stored_int(array)
    if storage is None:
        ctx.refuse(
            f"integers of type {array.dtype.name}",
            "int2 to int16, uint2 to uint16 or int32 is needed",
        )
    return storage


def real_of(ctx: ImportContext, operand: Operand, quant: Quant) -> Operand:
    """The reals that an integer tensor of the model stands for, read with `quant`.

    A value of the graph is dequantized, with another scale than its own by a multiply and an add.
    A float value is the integers themselves, as DynamicQuantizeLinear is imported (`dynamic`).
    """
    if isinstance(operand, ConstantOperand):
        if storage_of(ctx, operand.array) != quant.storage:
            ctx.refuse(
                f"{operand.array.dtype} with a zero point of {quant.storage}", "one type is needed"
            )
        return ConstantOperand(operand.array, operand.name, quant)
    shape = operand.type.shape
    scale, zero = quant.spread(shape)
    if operand.type.is_float:
        return _affine(ctx, operand, scale, -zero * scale)
    if not isinstance(operand.type.elem, Quant):
        ctx.refuse(f"%{operand.name} is {operand.type.elem}", "quantized integers are needed")
    stored = operand.type.quant
    real = ctx.emit(ops.Dequantize(operand))
    if stored == quant:
        return real
    if stored.storage != quant.storage:
        ctx.refuse(
            f"%{operand.name} is {stored.storage}, read as {quant.storage}", "one type is needed"
        )
    own_scale, own_zero = stored.spread(shape)
    return _affine(ctx, real, scale / own_scale, (own_zero - zero) * scale)


def _affine(ctx: ImportContext, x: Value, factor: Array, shift: Array) -> Value:
    """x * factor + shift."""
    if np.any(factor != 1):
        x = ctx.emit(ops.Mul(x, ctx.constant(factor, "factor")))
    if np.any(shift != 0):
        x = ctx.emit(ops.Add(x, ctx.constant(shift, "shift")))
    return x


def input_real(ctx: ImportContext, index: int, axis: int = -1) -> Operand:
    """Input `index` as reals, by its scale and zero point in the two inputs after it."""
    operand = ctx.operand(index)
    shape = shape_of(operand)
    quant = parameters(ctx, index + 1, shape, integer_type(operand), axis)
    return cleared(ctx, real_of(ctx, operand, quant), scale_at(ctx, index + 1), shape, axis)


def scale_at(ctx: ImportContext, index: int) -> Array:
    """The scale in input `index`, as float32."""
    scale = ctx.array(index, "the scale")
    if scale is None:
        ctx.refuse(f"input {index} is absent", "a scale is needed")
    return as_float(scale)


def integer_type(operand: Operand) -> Int | None:
    """The storage of an integer tensor, None for floats."""
    if isinstance(operand, ConstantOperand):
        return stored_int(operand.array)
    elem = operand.type.elem
    return elem.storage if isinstance(elem, Quant) else None


def requantized(ctx: ImportContext, real: Value, index: int) -> Value:
    """`real` by the scale and zero point in inputs `index` and the next: the node's result."""
    shape = real.type.shape
    to = parameters(ctx, index, shape)
    real = ctx.valued_real(cleared(ctx, real, scale_at(ctx, index), shape, 0))
    return ctx.result(ops.Quantize(real, to, ROUNDING))


def scale_product(ctx: ImportContext, *indices: int) -> Array:
    """The product of the scales in inputs `indices`, float32 numbers, in float64: exact for two."""
    product = np.ones(())
    for index in indices:
        scales = ctx.array(index, "a scale")
        if scales is None:
            ctx.refuse(f"input {index} is absent", "a scale is needed")
        one = np.asarray(as_float(scales), np.float64)
        product = np.asarray(product * (one.reshape(()) if one.size == 1 else one))
    return product


def bias_of(ctx: ImportContext, index: int, scale: Array) -> Operand | None:
    """An int32 bias in units of the accumulator, as reals; None where it is absent."""
    if not ctx.has(index):
        return None
    operand = ctx.operand(index)
    if not isinstance(operand, ConstantOperand) or stored_int(operand.array) != I32:
        ctx.refuse(f"the bias (input {index}) is no constant of int32", "one is needed")
    shape = operand.shape
    axis = len(shape) - 1
    quant = quant_of(ctx, scale, None, I32, shape, axis)
    real = ConstantOperand(operand.array, operand.name, quant)
    return cleared(ctx, real, scale, shape, axis)
