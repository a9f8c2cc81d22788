"""Operators of ONNX Runtime's own domain, com.microsoft."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, as_float, shape_of
from qir.frontends.onnx.ops.convolution import convolved
from qir.frontends.onnx.ops.elementwise import swished
from qir.frontends.onnx.ops.matrix import affine, multiplied
from qir.frontends.onnx.ops.pooling import averaged
from qir.frontends.onnx.ops.softmax import along
from qir.frontends.onnx.quantized.scales import (
    bias_of,
    input_real,
    integer_type,
    parameters,
    quant_of,
    real_of,
    requantized,
    scale_product,
)
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Op, Value
from qir.ir.types import U4, U8, Array, Quant

Converter = Callable[[ImportContext], Value]


def qlinear_binary(make: Callable[[Value, Value], Op]) -> Converter:
    """QLinearAdd, QLinearMul: a, scale, zero; b, scale, zero; y's scale, zero."""

    def convert(ctx: ImportContext) -> Value:
        a, b = (ctx.valued_real(input_real(ctx, i)) for i in (0, 3))
        return requantized(ctx, ctx.emit(make(a, b)), 6)

    return convert


def qlinear_unary(make: Callable[[ImportContext, Value], Op]) -> Converter:
    """A function of one: x, scale, zero; y's scale, zero."""

    def convert(ctx: ImportContext) -> Value:
        x = ctx.valued_real(input_real(ctx, 0))
        return requantized(ctx, ctx.emit(make(ctx, x)), 3)

    return convert


qlinear_sigmoid = qlinear_unary(lambda ctx, x: ops.Sigmoid(x))
qlinear_leaky_relu = qlinear_unary(lambda ctx, x: ops.LeakyRelu(x, ctx.number("alpha", 0.01)))


def qlinear_global_average_pool(ctx: ImportContext) -> Value:
    """The mean over all spatial axes, of (N, C, ...) or, channels_last, (N, ..., C)."""
    x = ctx.valued_real(input_real(ctx, 0))
    rank = x.type.rank
    if rank < 3:
        ctx.refuse(f"x is of rank {rank}", "rank 3 or more is needed")
    first = 1 if ctx.integer("channels_last", 0) else 2
    axes = tuple(range(first, first + rank - 2))
    return requantized(ctx, ctx.emit(ops.ReduceMean(x, axes, True)), 3)


def qlinear_average_pool(ctx: ImportContext) -> Value:
    """An average pooling of (N, C, H, W) or, channels_last, (N, H, W, C)."""
    inner = ctx.before("real")
    x = inner.valued_real(input_real(inner, 0))
    if not ctx.integer("channels_last", 0):
        return requantized(ctx, averaged(inner, x), 3)
    nchw = ctx.emit(ops.Transpose(x, (0, 3, 1, 2)))
    pooled = averaged(inner, nchw)
    return requantized(ctx, ctx.emit(ops.Transpose(pooled, (0, 2, 3, 1))), 3)


def qlinear_softmax(ctx: ImportContext) -> Value:
    """Softmax in the form of the default domain's opset that the attribute names."""
    inner = ctx.before("real")
    inner.opset = ctx.integer("opset")
    x = inner.valued_real(input_real(inner, 0))
    return requantized(ctx, along(inner, x, ops.Softmax), 3)


def qlinear_reduce_mean(ctx: ImportContext) -> Value:
    """QLinearReduceMean: x, scale, zero; y's scale, zero."""
    x = ctx.valued_real(input_real(ctx, 0))
    axes = ctx.axes(ctx.integers("axes") or range(x.type.rank), x.type.rank)
    return requantized(ctx, ctx.emit(ops.ReduceMean(x, axes, ctx.integer("keepdims", 1) == 1)), 3)


def qlinear_concat(ctx: ImportContext) -> Value:
    """y's scale, zero; then x, scale, zero for each operand."""
    if len(ctx.operands) < 5 or (len(ctx.operands) - 2) % 3:
        ctx.refuse(f"{len(ctx.operands)} inputs", "2 and 3 for each operand are needed")
    xs = [ctx.valued_real(input_real(ctx, i)) for i in range(2, len(ctx.operands), 3)]
    axis = ctx.axis(ctx.integer("axis"), xs[0].type.rank)
    return requantized(ctx, ctx.emit(ops.Concat(tuple(xs), axis)), 0)


def qgemm(ctx: ImportContext) -> Value:
    """QGemm: a, scale, zero; b, scale, zero; bias in units of products; y's scale, zero."""
    inner = ctx.before("real") if ctx.has(7) else ctx
    b = input_real(inner, 3, axis=0 if ctx.integer("transB", 0) else 1)
    alpha = np.float64(np.float32(ctx.number("alpha", 1.0)))
    bias = bias_of(inner, 6, scale_product(ctx, 1, 4) * alpha)
    y = affine(inner, input_real(inner, 0), b, bias)
    return requantized(ctx, y, 7) if ctx.has(7) else y


def dynamic_quantize_matmul(ctx: ImportContext) -> Value:
    """DynamicQuantizeMatMul: float a; b, scale, zero; bias. The rounding of a is left out."""
    b = ctx.operand(1)
    quant = parameters(ctx, 2, shape_of(b), None, -1)
    if not isinstance(b, ConstantOperand):
        ctx.refuse("b (input 1) is computed at run time", "a constant is needed")
    return _plus(ctx, ctx.operand(0), ConstantOperand(b.array, b.name, quant), 4)


def matmul_integer_to_float(ctx: ImportContext) -> Value:
    """MatMulIntegerToFloat: a, b, their scales, their zero points, bias."""
    a, b = ctx.operand(0), ctx.operand(1)
    reals = []
    for operand, scale_at, zero_at in ((a, 2, 4), (b, 3, 5)):
        scale, zero = ctx.array(scale_at, "a scale"), ctx.array(zero_at, "a zero point")
        if scale is None:
            ctx.refuse(f"input {scale_at} is absent", "a scale is needed")
        storage = integer_type(operand) or U8
        quant = quant_of(ctx, as_float(scale), zero, storage, shape_of(operand), -1)
        reals.append(real_of(ctx, operand, quant))
    return _plus(ctx, reals[0], reals[1], 6)


def _plus(ctx: ImportContext, a: Operand, b: Operand, bias_at: int) -> Value:
    """a @ b + bias."""
    if not ctx.has(bias_at):
        return multiplied(ctx, a, b)
    y = multiplied(ctx.before("product"), a, b)
    return ctx.result(ops.Add(y, ctx.real(bias_at)))


def matmul_nbits(ctx: ImportContext) -> Value:
    """MatMulNBits: a @ w.T with w (N, K) of 4 or 8 bits, one scale for each block along K.

    b (N, K / block, block * bits / 8) holds the elements low bits first; scales and zero points
    (N * K / block), zero points packed alike; without them 2**(bits - 1).
    """
    k, n = ctx.integer("K"), ctx.integer("N")
    bits, block = ctx.integer("bits", 4), ctx.integer("block_size")
    packed, scale = ctx.array(1, "b"), ctx.array(2, "the scales")
    if packed is None or scale is None or bits not in (4, 8) or block < 1 or k % block:
        ctx.refuse(
            f"bits {bits}, K {k}, block_size {block}", "4 or 8 bits in whole blocks are needed"
        )
    if ctx.has(4):
        ctx.refuse("a group index (input 4)", "none is needed")
    stored = _unpacked(packed, bits)[: n * k].reshape(n, k)
    zero = ctx.array(3, "the zero points")
    count = k // block
    wide = np.asarray(scale, np.float64).reshape(n, count)
    if zero is None:
        zeros = np.full(wide.shape, 1 << (bits - 1), np.int64)
    else:
        zeros = _unpacked(zero, bits).reshape(n, -1)[:, :count].astype(np.int64)
    quant = Quant(U4 if bits == 4 else U8, Data(wide), Data(zeros), 1, block)
    w = ConstantOperand(stored, getattr(ctx.operand(1), "name", "w"), quant)
    bias = ctx.real(5) if ctx.has(5) else None
    return ctx.result(ops.Linear(ctx.real(0), ctx.valued_real(w), bias))


def _unpacked(packed: Array, bits: int) -> Array:
    """The elements of bytes, low bits first."""
    flat = packed.astype(np.uint8).reshape(-1)
    return flat if bits == 8 else np.stack([flat & 15, flat >> 4], 1).reshape(-1)


def fused_conv(ctx: ImportContext) -> Value:
    """FusedConv: convolution, plus input 3, then the activation: each an op of its own."""
    inner = ctx.before("conv")
    bias = ctx.real(2) if ctx.has(2) else None
    y = convolved(inner, ctx.real(0), ctx.operand(1), bias)
    if ctx.has(3):
        y = ctx.emit(ops.Add(y, ctx.real(3)))
    return _activated(ctx, y, ctx.text("activation", ""), ctx.numbers("activation_params") or ())


def fused_gemm(ctx: ImportContext) -> Value:
    """FusedGemm: Gemm, then the activation."""
    c = ctx.operand(2) if ctx.has(2) else None
    y = affine(ctx.before("gemm"), ctx.operand(0), ctx.operand(1), c)
    names = ("activation_alpha", "activation_beta")
    parameters = tuple(ctx.number(n) for n in names if ctx.has_attribute(n))
    return _activated(ctx, y, ctx.text("activation", ""), parameters)


def _activated(ctx: ImportContext, x: Value, name: str, parameters: tuple[float, ...]) -> Value:
    match name, parameters:
        case "", _:
            return x
        case "Relu", _:
            return ctx.result(ops.Relu(x))
        case "Sigmoid", _:
            return ctx.result(ops.Sigmoid(x))
        case "Tanh", _:
            return ctx.result(ops.Tanh(x))
        case "LeakyRelu", (alpha, *_):
            return ctx.result(ops.LeakyRelu(x, alpha))
        case "Clip", (low, high):
            return ctx.result(ops.Clip(x, low, high))
        case "HardSigmoid", (alpha, beta):
            return ctx.result(ops.HardSigmoid(x, alpha, beta))
    return ctx.refuse(
        f"activation {name!r} of {list(parameters)}",
        "Relu, Sigmoid, Tanh, LeakyRelu, Clip or HardSigmoid is needed",
    )


def fused_matmul(ctx: ImportContext) -> Value:
    """FusedMatMul: alpha * a' @ b', their last two axes turned by transA and transB."""
    if ctx.integer("transBatchA", 0) or ctx.integer("transBatchB", 0):
        ctx.refuse("transBatchA or transBatchB = 1", "0 is needed")
    a, b = (_transposed(ctx, i, n) for i, n in ((0, "transA"), (1, "transB")))
    alpha = ctx.number("alpha", 1.0)
    if alpha == 1:
        return multiplied(ctx, a, b)
    y = multiplied(ctx.before("product"), a, b)
    return ctx.result(ops.Mul(y, ctx.constant(alpha, "alpha")))


def _transposed(ctx: ImportContext, index: int, name: str) -> Operand:
    operand = ctx.operand(index)
    rank = len(shape_of(operand))
    if not ctx.integer(name, 0) or rank < 2:
        return operand
    return ctx.transposed(operand, (*range(rank - 2), rank - 1, rank - 2))


def bias_gelu(ctx: ImportContext) -> Value:
    """BiasGelu: gelu(x + bias)."""
    return ctx.result(ops.Gelu(ctx.emit(ops.Add(ctx.real(0), ctx.real(1))), False))


def fast_gelu(ctx: ImportContext) -> Value:
    """FastGelu: gelu by tanh of x, plus a bias where there is one."""
    x = ctx.real(0)
    return ctx.result(ops.Gelu(ctx.emit(ops.Add(x, ctx.real(1))) if ctx.has(1) else x, True))


def exact_gelu(ctx: ImportContext) -> Value:
    """Gelu: x * Phi(x)."""
    return ctx.result(ops.Gelu(ctx.real(0), False))


def quick_gelu(ctx: ImportContext) -> Value:
    """QuickGelu: x * sigmoid(alpha * x), alpha 1.702 by default."""
    return swished(ctx, ctx.number("alpha", 1.702))
