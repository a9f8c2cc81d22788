"""Quantized models: QDQ pairs, operators on stored integers, and dynamic quantization."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import STORED, ConstantOperand, Operand, as_float, shape_of
from qir.frontends.onnx.ops.convolution import convolved
from qir.frontends.onnx.ops.matrix import multiplied
from qir.frontends.onnx.quantized.scales import (
    ROUNDING,
    bias_of,
    cleared,
    input_real,
    integer_type,
    parameters,
    quant_of,
    real_of,
    requantized,
    scale_at,
    scale_product,
    storage_of,
)
from qir.ir import ops
from qir.ir.op import Value
from qir.ir.ops.quantize import dequantized, quantized
from qir.ir.types import U8, Int


def quantize_linear(ctx: ImportContext) -> Operand:
    """QuantizeLinear -> quantize; of a constant: its stored integers."""
    x = ctx.operand(0)
    axis, block = ctx.integer("axis", 1), ctx.integer("block_size", 0)
    to = parameters(ctx, 1, shape_of(x), _output_storage(ctx), axis, block)
    x = cleared(ctx, x, scale_at(ctx, 1), shape_of(x), axis, block)
    if isinstance(x, Value):
        return ctx.result(ops.Quantize(ctx.valued_real(x), to, ROUNDING))
    reals = as_float(x.array) if x.quant is None else dequantized(x.array, x.quant)
    return ConstantOperand(
        quantized(reals, to, ROUNDING).astype(_dtype(to.storage)), ctx.outputs[0]
    )


def dequantize_linear(ctx: ImportContext) -> Operand:
    """DequantizeLinear -> dequantize; a constant stays one, of a quantized type.

    With a scale computed at run time (of a dynamic product) it is a multiply.
    """
    x = ctx.operand(0)
    if isinstance(x, Value) and x.type.is_float and isinstance(ctx.operand(1), Value):
        zero = ctx.array(2, "the zero point")
        if zero is not None and zero.any():
            ctx.refuse("a zero point beside a scale at run time", "0 is needed")
        return ctx.result(ops.Mul(x, ctx.real(1)))
    axis, block = ctx.integer("axis", 1), ctx.integer("block_size", 0)
    scale = scale_at(ctx, 1)
    quant = parameters(ctx, 1, shape_of(x), integer_type(x), axis, block)
    if isinstance(x, Value) and x.type.elem == quant and np.all(scale != 0):
        return ctx.result(ops.Dequantize(x))
    return cleared(ctx, real_of(ctx, x, quant), scale, shape_of(x), axis, block)


def _output_storage(ctx: ImportContext) -> Int | None:
    """The type that attribute output_dtype names, None where it is absent or 0."""
    kind = ctx.integer("output_dtype", 0)
    return storage_of(ctx, np.zeros(0, helper.tensor_dtype_to_np_dtype(kind))) if kind else None


def _dtype(storage: Int) -> np.dtype[np.generic]:
    """The dtype of the model's arrays of `storage`: int4 and the like have their own."""
    name = next(n for n, s in STORED.items() if s == storage)
    kind = TensorProto.DataType.Value(name.upper())
    dtype: np.dtype[np.generic] = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    return dtype


def qlinear_conv(ctx: ImportContext) -> Value:
    """QLinearConv: x, scale, zero; w, scale, zero; y's scale, zero; bias in units of products."""
    inner = ctx.before("real")
    x = inner.valued_real(input_real(inner, 0))
    w = input_real(inner, 3, axis=0)
    bias = bias_of(inner, 8, scale_product(ctx, 1, 4))
    valued = None if bias is None else inner.valued_real(bias)
    return requantized(ctx, convolved(inner, x, w, valued), 6)


def qlinear_matmul(ctx: ImportContext) -> Value:
    """QLinearMatMul: a, scale, zero; b, scale, zero; y's scale, zero."""
    inner = ctx.before("real")
    return requantized(ctx, multiplied(inner, input_real(inner, 0), input_real(inner, 3)), 6)


def matmul_integer(ctx: ImportContext) -> Value:
    """MatMulInteger: the integers as reals of scale 1, so the float result holds the integers."""
    return multiplied(ctx, unit_real(ctx, 0, 2, -1), unit_real(ctx, 1, 3, -1))


def conv_integer(ctx: ImportContext) -> Value:
    """ConvInteger: as MatMulInteger; padding is the zero point, a real 0."""
    return convolved(ctx, ctx.valued_real(unit_real(ctx, 0, 2, 0)), unit_real(ctx, 1, 3, 0), None)


def unit_real(ctx: ImportContext, index: int, zero_at: int, axis: int) -> Operand:
    """Input `index` minus its zero point, as reals of scale 1."""
    operand = ctx.operand(index)
    storage = integer_type(operand)
    if storage is None:
        if isinstance(operand, ConstantOperand):
            ctx.refuse(f"input {index} is {operand.array.dtype}", "8-bit integers are needed")
        storage = U8  # a float value that holds integers, of a DynamicQuantizeLinear
    zero = ctx.array(zero_at, "the zero point")
    count = 1 if zero is None else zero.size
    ones = np.ones(() if count == 1 else (count,))
    flat = None if zero is None else zero.reshape(ones.shape)
    return real_of(ctx, operand, quant_of(ctx, ones, flat, storage, shape_of(operand), axis))


def dynamic_quantize_linear(ctx: ImportContext) -> tuple[Operand, ...]:
    """DynamicQuantizeLinear -> y = x, scale = 1, zero point = 0.

    Its rounding at run time is left out: products of y, times the scales, mean what they meant in
    the float model, and qir calibrates static scales of its own.
    """
    scale, zero = (f"{ctx.outputs[0]}.{role}" for role in ("scale", "zero_point"))
    return (
        ctx.operand(0),
        ConstantOperand(np.array(1, np.float32), scale),
        ConstantOperand(np.array(0, np.uint8), zero),
    )
