"""Operators of ONNX Runtime's own domain, com.microsoft."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.operands import Known, Operand, as_float, shape_of
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

Converter = Callable[[Site], Value]


def qlinear_binary(make: Callable[[Value, Value], Op]) -> Converter:
    """QLinearAdd, QLinearMul: a, scale, zero; b, scale, zero; y's scale, zero."""

    def convert(at: Site) -> Value:
        a, b = (at.valued_real(input_real(at, i)) for i in (0, 3))
        return requantized(at, at.emit(make(a, b)), 6)

    return convert


def qlinear_unary(make: Callable[[Site, Value], Op]) -> Converter:
    """A function of one: x, scale, zero; y's scale, zero."""

    def convert(at: Site) -> Value:
        x = at.valued_real(input_real(at, 0))
        return requantized(at, at.emit(make(at, x)), 3)

    return convert


qlinear_sigmoid = qlinear_unary(lambda at, x: ops.Sigmoid(x))
qlinear_leaky_relu = qlinear_unary(lambda at, x: ops.LeakyRelu(x, at.number("alpha", 0.01)))


def qlinear_global_average_pool(at: Site) -> Value:
    """The mean over all spatial axes, of (N, C, ...) or, channels_last, (N, ..., C)."""
    x = at.valued_real(input_real(at, 0))
    rank = x.type.rank
    if rank < 3:
        at.refuse(f"x is of rank {rank}", "rank 3 or more is needed")
    first = 1 if at.integer("channels_last", 0) else 2
    axes = tuple(range(first, first + rank - 2))
    return requantized(at, at.emit(ops.ReduceMean(x, axes, True)), 3)


def qlinear_average_pool(at: Site) -> Value:
    """An average pooling of (N, C, H, W) or, channels_last, (N, H, W, C)."""
    inner = at.before("real")
    x = inner.valued_real(input_real(inner, 0))
    if not at.integer("channels_last", 0):
        return requantized(at, averaged(inner, x), 3)
    turned = at.emit(ops.Transpose(x, (0, 3, 1, 2)))
    pooled = averaged(inner, turned)
    return requantized(at, at.emit(ops.Transpose(pooled, (0, 2, 3, 1))), 3)


def qlinear_softmax(at: Site) -> Value:
    """Softmax in the form of the default domain's opset that the attribute names."""
    inner = at.before("real")
    inner.opset = at.integer("opset")
    x = inner.valued_real(input_real(inner, 0))
    return requantized(at, along(inner, x, ops.Softmax), 3)


def qlinear_reduce_mean(at: Site) -> Value:
    """QLinearReduceMean: x, scale, zero; y's scale, zero."""
    x = at.valued_real(input_real(at, 0))
    axes = at.axes(at.integers("axes") or range(x.type.rank), x.type.rank)
    return requantized(at, at.emit(ops.ReduceMean(x, axes, at.integer("keepdims", 1) == 1)), 3)


def qlinear_concat(at: Site) -> Value:
    """y's scale, zero; then x, scale, zero for each operand."""
    if len(at.operands) < 5 or (len(at.operands) - 2) % 3:
        at.refuse(f"{len(at.operands)} inputs", "2 and 3 for each operand are needed")
    xs = [at.valued_real(input_real(at, i)) for i in range(2, len(at.operands), 3)]
    axis = at.axis(at.integer("axis"), xs[0].type.rank)
    return requantized(at, at.emit(ops.Concat(tuple(xs), axis)), 0)


def qgemm(at: Site) -> Value:
    """QGemm: a, scale, zero; b, scale, zero; bias in units of products; y's scale, zero."""
    inner = at.before("real") if at.has(7) else at
    b = input_real(inner, 3, axis=0 if at.integer("transB", 0) else 1)
    alpha = np.float64(np.float32(at.number("alpha", 1.0)))
    bias = bias_of(inner, 6, scale_product(at, 1, 4) * alpha)
    y = affine(inner, input_real(inner, 0), b, bias)
    return requantized(at, y, 7) if at.has(7) else y


def dynamic_quantize_matmul(at: Site) -> Value:
    """DynamicQuantizeMatMul: float a; b, scale, zero; bias. The rounding of a is left out."""
    b = at.operand(1)
    quant = parameters(at, 2, shape_of(b), None, -1)
    if not isinstance(b, Known):
        at.refuse("b (input 1) is computed at run time", "a constant is needed")
    return _plus(at, at.operand(0), Known(b.array, b.name, quant), 4)


def matmul_integer_to_float(at: Site) -> Value:
    """MatMulIntegerToFloat: a, b, their scales, their zero points, bias."""
    a, b = at.operand(0), at.operand(1)
    reals = []
    for operand, scale_at, zero_at in ((a, 2, 4), (b, 3, 5)):
        scale, zero = at.array(scale_at, "a scale"), at.array(zero_at, "a zero point")
        if scale is None:
            at.refuse(f"input {scale_at} is absent", "a scale is needed")
        storage = integer_type(operand) or U8
        quant = quant_of(at, as_float(scale), zero, storage, shape_of(operand), -1)
        reals.append(real_of(at, operand, quant))
    return _plus(at, reals[0], reals[1], 6)


def _plus(at: Site, a: Operand, b: Operand, bias_at: int) -> Value:
    """a @ b + bias."""
    if not at.has(bias_at):
        return multiplied(at, a, b)
    y = multiplied(at.before("product"), a, b)
    return at.result(ops.Add(y, at.real(bias_at)))


def matmul_nbits(at: Site) -> Value:
    """MatMulNBits: a @ w.T with w (N, K) of 4 or 8 bits, one scale for each block along K.

    b (N, K / block, block * bits / 8) holds the elements low bits first; scales and zero points
    (N * K / block), zero points packed alike; without them 2**(bits - 1).
    """
    k, n = at.integer("K"), at.integer("N")
    bits, block = at.integer("bits", 4), at.integer("block_size")
    packed, scale = at.array(1, "b"), at.array(2, "the scales")
    if packed is None or scale is None or bits not in (4, 8) or block < 1 or k % block:
        at.refuse(
            f"bits {bits}, K {k}, block_size {block}", "4 or 8 bits in whole blocks are needed"
        )
    if at.has(4):
        at.refuse("a group index (input 4)", "none is needed")
    stored = _unpacked(packed, bits)[: n * k].reshape(n, k)
    zero = at.array(3, "the zero points")
    count = k // block
    wide = np.asarray(scale, np.float64).reshape(n, count)
    if zero is None:
        zeros = np.full(wide.shape, 1 << (bits - 1), np.int64)
    else:
        zeros = _unpacked(zero, bits).reshape(n, -1)[:, :count].astype(np.int64)
    quant = Quant(U4 if bits == 4 else U8, Data(wide), Data(zeros), 1, block)
    w = Known(stored, getattr(at.operand(1), "name", "w"), quant)
    bias = at.real(5) if at.has(5) else None
    return at.result(ops.Linear(at.real(0), at.valued_real(w), bias))


def _unpacked(packed: Array, bits: int) -> Array:
    """The elements of bytes, low bits first."""
    flat = packed.astype(np.uint8).reshape(-1)
    return flat if bits == 8 else np.stack([flat & 15, flat >> 4], 1).reshape(-1)


def fused_conv(at: Site) -> Value:
    """FusedConv: convolution, plus input 3, then the activation: each an op of its own."""
    inner = at.before("conv")
    bias = at.real(2) if at.has(2) else None
    y = convolved(inner, at.real(0), at.operand(1), bias)
    if at.has(3):
        y = at.emit(ops.Add(y, at.real(3)))
    return _activated(at, y, at.text("activation", ""), at.numbers("activation_params") or ())


def fused_gemm(at: Site) -> Value:
    """FusedGemm: Gemm, then the activation."""
    c = at.operand(2) if at.has(2) else None
    y = affine(at.before("gemm"), at.operand(0), at.operand(1), c)
    names = ("activation_alpha", "activation_beta")
    given = tuple(at.number(n) for n in names if at.has_attribute(n))
    return _activated(at, y, at.text("activation", ""), given)


def _activated(at: Site, x: Value, name: str, given: tuple[float, ...]) -> Value:
    match name, given:
        case "", _:
            return x
        case "Relu", _:
            return at.result(ops.Relu(x))
        case "Sigmoid", _:
            return at.result(ops.Sigmoid(x))
        case "Tanh", _:
            return at.result(ops.Tanh(x))
        case "LeakyRelu", (alpha, *_):
            return at.result(ops.LeakyRelu(x, alpha))
        case "Clip", (low, high):
            return at.result(ops.Clip(x, low, high))
        case "HardSigmoid", (alpha, beta):
            return at.result(ops.HardSigmoid(x, alpha, beta))
    return at.refuse(
        f"activation {name!r} of {list(given)}",
        "Relu, Sigmoid, Tanh, LeakyRelu, Clip or HardSigmoid is needed",
    )


def fused_matmul(at: Site) -> Value:
    """FusedMatMul: alpha * a' @ b', their last two axes turned by transA and transB."""
    if at.integer("transBatchA", 0) or at.integer("transBatchB", 0):
        at.refuse("transBatchA or transBatchB = 1", "0 is needed")
    a, b = (_turned(at, i, n) for i, n in ((0, "transA"), (1, "transB")))
    alpha = at.number("alpha", 1.0)
    if alpha == 1:
        return multiplied(at, a, b)
    y = multiplied(at.before("product"), a, b)
    return at.result(ops.Mul(y, at.constant(alpha, "alpha")))


def _turned(at: Site, index: int, name: str) -> Operand:
    operand = at.operand(index)
    rank = len(shape_of(operand))
    if not at.integer(name, 0) or rank < 2:
        return operand
    return at.transposed(operand, (*range(rank - 2), rank - 1, rank - 2))


def bias_gelu(at: Site) -> Value:
    """BiasGelu: gelu(x + bias)."""
    return at.result(ops.Gelu(at.emit(ops.Add(at.real(0), at.real(1))), False))


def fast_gelu(at: Site) -> Value:
    """FastGelu: gelu by tanh of x, plus a bias where there is one."""
    x = at.real(0)
    return at.result(ops.Gelu(at.emit(ops.Add(x, at.real(1))) if at.has(1) else x, True))


def exact_gelu(at: Site) -> Value:
    """Gelu: x * Phi(x)."""
    return at.result(ops.Gelu(at.real(0), False))


def quick_gelu(at: Site) -> Value:
    """QuickGelu: x * sigmoid(alpha * x), alpha 1.702 by default."""
    return swished(at, at.number("alpha", 1.702))
