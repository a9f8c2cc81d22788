"""Fold batch normalization into the layer before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, BatchNorm, Constant, Conv, ConvTranspose, Linear, Mul, Sqrt
from qir.ir.torch_executor import run_op
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class FoldBatchNorm(RewritePass):
    """batch_norm(conv(x, w, b)) -> conv(x, w * s, (b - mean) * s + offset)

    s = gain / sqrt(variance + epsilon); without b the bias is offset - mean * s; elsewhere
    batch_norm(x) -> x * s + (offset - mean * s). Each operation is rounded to float32, as torch
    does it when it folds for ONNX, square root included: a network has the same bits whether its
    exporter folded or this pass does. Conv, conv_transpose and linear alike, if nothing else reads
    them and their weights are float constants.
    Keeps: reals within 1e-5.
    Source: HAWQ-V3, arXiv:2011.10680 (folding of batch normalization); the order of operations:
    torch/csrc/jit/passes/onnx/eval_peephole.cpp; docs/decisions/0003-batch-norm-in-float32.md.
    """

    name: ClassVar[str] = "fold-batch-norm"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (BatchNorm,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, BatchNorm)
        parameters = [at.constant(v) for v in (op.gain, op.offset, op.mean, op.variance)]
        if any(a is None for a in parameters):
            return Miss("its parameters are not all constants")
        dtype = np.result_type(op.x.type.elem.carrier, np.float32)
        gain, offset, mean, variance = (np.asarray(a, dtype) for a in parameters)
        variance = variance + dtype.type(op.epsilon)
        if np.any(variance <= 0):
            least = float(np.min(variance))
            return Miss(f"variance + epsilon reaches {least:g}, over 0 is needed")
        scale = gain / run_op(Sqrt(op.variance), [variance])  # torch's, which may be an ulp off
        shift = offset - mean * scale

        def bias_of(bias: Array | None) -> Array:
            return shift if bias is None else (bias.astype(dtype) - mean) * scale + offset

        layer = fold(at, op.x, scale, bias_of, op)
        return plain(at, op, scale, shift) if isinstance(layer, Miss) else layer


def plain(at: Site, op: BatchNorm, scale: Array, shift: Array) -> Value:
    """x * scale + shift, with constants."""
    elem = op.x.type.elem
    scaled = at.emit(Mul(op.x, at.emit(Constant.of(scale, elem))))
    return at.replace(Add(scaled, at.emit(Constant.of(shift, elem))))


def fold_scale(at: Site, value: Value, scale: Array, shift: Array, *merged_ops: Op) -> Value | Miss:
    """value * scale + shift, per output channel (or one for all), inside the layer that makes
    `value`, in float64.
    """

    def bias_of(bias: Array | None) -> Array:
        return np.asarray((0 if bias is None else bias.astype(np.float64)) * scale + shift)

    return fold(at, value, scale, bias_of, *merged_ops)


def fold(
    at: Site, value: Value, scale: Array, bias_of: Callable[[Array | None], Array], *merged_ops: Op
) -> Value | Miss:
    """The layer that computes `value`, with its weights times `scale` and its bias mapped by
    `bias_of`.
    """
    layer = at.producer(value)
    if not isinstance(layer, (Conv, ConvTranspose, Linear)):
        return Miss("x does not come from a conv, conv_transpose or linear", value.name)
    if at.uses(value) != 1:
        return Miss(f"x is read {at.uses(value)} times", value.name)
    weights, bias = at.constant(layer.w), at.constant(layer.bias)
    if weights is None or not layer.w.type.is_float or (layer.bias is not None and bias is None):
        return Miss("weights or bias are not float constants", value.name)
    channels = len(weights)
    scale, b = (np.broadcast_to(a, (channels,)) for a in (scale, bias_of(bias)))
    # in float64, where a product of two float32 is exact: one rounding, to the weights' type
    w = weights.astype(np.float64) * scale.reshape(-1, *[1] * (weights.ndim - 1))
    elem = layer.w.type.elem
    keep_bias = layer.bias is not None or bool(np.any(b != 0))
    return at.replace(
        replace(
            layer,
            w=at.emit(Constant.of(w, elem)) if np.any(scale != 1) else layer.w,
            bias=at.emit(Constant.of(b, elem)) if keep_bias else None,
        ),
        layer,
    )
