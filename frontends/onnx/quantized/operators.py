"""Quantized models: QDQ pairs, operators on stored integers, and dynamic quantization."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.operands import STORED, Known, Operand, as_float, shape_of
from qir.frontends.onnx.ops.convolution import convolved
from qir.frontends.onnx.ops.matrix import multiplied
from qir.frontends.onnx.quantized.scales import (
    ROUNDING,
    bias_of,
    input_real,
    integer_type,
    parameters,
    quant_of,
    real_of,
    requantized,
    scale_product,
    storage_of,
)
from qir.ir import ops
from qir.ir.op import Value
from qir.ir.ops.quantize import dequantized, quantized
from qir.ir.types import U8, Int


def quantize_linear(at: Site) -> Operand:
    """QuantizeLinear -> quantize; of a constant: its stored integers."""
    x = at.operand(0)
    axis, block = at.integer("axis", 1), at.integer("block_size", 0)
    to = parameters(at, 1, shape_of(x), _output_storage(at), axis, block)
    if isinstance(x, Value):
        return at.result(ops.Quantize(at.real(0), to, ROUNDING))
    reals = as_float(x.array) if x.quant is None else dequantized(x.array, x.quant)
    return Known(quantized(reals, to, ROUNDING).astype(_dtype(to.storage)), at.outputs[0])


def dequantize_linear(at: Site) -> Operand:
    """DequantizeLinear -> dequantize; a constant stays one, of a quantized type.

    With a scale computed at run time (of a dynamic product) it is a multiply.
    """
    x = at.operand(0)
    if isinstance(x, Value) and x.type.is_float and isinstance(at.operand(1), Value):
        zero = at.array(2, "the zero point")
        if zero is not None and zero.any():
            at.refuse("a zero point beside a scale at run time", "0 is needed")
        return at.result(ops.Mul(x, at.real(1)))
    axis, block = at.integer("axis", 1), at.integer("block_size", 0)
    quant = parameters(at, 1, shape_of(x), integer_type(x), axis, block)
    if isinstance(x, Value) and x.type.elem == quant:
        return at.result(ops.Dequantize(x))
    return real_of(at, x, quant)


def _output_storage(at: Site) -> Int | None:
    """The type that attribute output_dtype names, None where it is absent or 0."""
    kind = at.integer("output_dtype", 0)
    return storage_of(at, np.zeros(0, helper.tensor_dtype_to_np_dtype(kind))) if kind else None


def _dtype(storage: Int) -> np.dtype[np.generic]:
    """The dtype of the model's arrays of `storage`: int4 and the like have their own."""
    name = next(n for n, s in STORED.items() if s == storage)
    kind = TensorProto.DataType.Value(name.upper())
    found: np.dtype[np.generic] = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    return found


def qlinear_conv(at: Site) -> Value:
    """QLinearConv: x, scale, zero; w, scale, zero; y's scale, zero; bias in units of products."""
    inner = at.before("real")
    x = inner.valued_real(input_real(inner, 0))
    w = input_real(inner, 3, axis=0)
    bias = bias_of(inner, 8, scale_product(at, 1, 4))
    valued = None if bias is None else inner.valued_real(bias)
    return requantized(at, convolved(inner, x, w, valued), 6)


def qlinear_matmul(at: Site) -> Value:
    """QLinearMatMul: a, scale, zero; b, scale, zero; y's scale, zero."""
    inner = at.before("real")
    return requantized(at, multiplied(inner, input_real(inner, 0), input_real(inner, 3)), 6)


def matmul_integer(at: Site) -> Value:
    """MatMulInteger: the integers as reals of scale 1, so the float result holds the integers."""
    return multiplied(at, unit_real(at, 0, 2, -1), unit_real(at, 1, 3, -1))


def conv_integer(at: Site) -> Value:
    """ConvInteger: as MatMulInteger; padding is the zero point, a real 0."""
    return convolved(at, at.valued_real(unit_real(at, 0, 2, 0)), unit_real(at, 1, 3, 0), None)


def unit_real(at: Site, index: int, zero_at: int, axis: int) -> Operand:
    """Input `index` minus its zero point, as reals of scale 1."""
    operand = at.operand(index)
    storage = integer_type(operand)
    if storage is None:
        if isinstance(operand, Known):
            at.refuse(f"input {index} is {operand.array.dtype}", "8-bit integers are needed")
        storage = U8  # a float value that holds integers, of a DynamicQuantizeLinear
    zero = at.array(zero_at, "the zero point")
    count = 1 if zero is None else zero.size
    ones = np.ones(() if count == 1 else (count,))
    flat = None if zero is None else zero.reshape(ones.shape)
    return real_of(at, operand, quant_of(at, ones, flat, storage, shape_of(operand), axis))


def dynamic_quantize_linear(at: Site) -> tuple[Operand, ...]:
    """DynamicQuantizeLinear -> y = x, scale = 1, zero point = 0.

    Its rounding at run time is left out: products of y, times the scales, mean what they meant in
    the float model, and qir calibrates static scales of its own.
    """
    scale, zero = (f"{at.outputs[0]}.{what}" for what in ("scale", "zero_point"))
    return at.operand(0), Known(np.array(1, np.float32), scale), Known(np.array(0, np.uint8), zero)
