"""Fold scales and shifts by constants into an adjacent layer, or into each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Conv, ConvTranspose, Div, Linear, Mul, Sub
from qir.ir.ops.kinds import Layer
from qir.ir.types import Array
from qir.passes.canonicalize.fold_batch_norm import fold_scale
from qir.passes.infra.constants import channel_constant, per_channel, split_constant
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site

AFFINE = (Mul, Add, Sub, Div)


@register
@dataclass(frozen=True)
class FoldAffine(RewritePass):
    """conv(x, w, b) * s + t -> conv(x, w * s, b * s + t), and its like

    s and t are constants: one number, or one for each channel.
    1. after a conv, conv_transpose or linear that nothing else reads: into its weights and bias.
    2. after another scale or shift that nothing else reads: (x + t) * s -> x * s + t * s, x + t +
    u -> x + (t + u), ...
    3. before a conv or linear: conv(x * s + t) -> conv'(x); with padding only while t = 0.
    4. x - t -> x + (-t), x / s -> x * (1 / s), t - x -> x * -1 + t.
    Keeps: reals within 1e-4 (the constants are rounded once, sums may cancel).
    """

    name: ClassVar[str] = "fold-affine"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    roots: ClassVar[tuple[type[Op], ...]] = (*AFFINE, Conv, Linear)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if isinstance(op, Layer):
            return into_next(op, at)
        parts = affine(op, at)
        if parts is None:
            return Miss("no constant of one number, or one for each channel")
        x, scale, shift = parts
        if isinstance(at.producer(x), (Conv, ConvTranspose, Linear)):
            folded_value = fold_scale(at, x, scale, shift, op)
            if not isinstance(folded_value, Miss):
                return folded_value
        inner = at.producer(x)
        before = affine(inner, at) if isinstance(inner, (Mul, Add)) and at.uses(x) == 1 else None
        if before is not None and inner is not None and not in_order(inner, op):
            y, first, offset = before
            return emit_affine(op, y, first * scale, offset * scale + shift, at, inner)
        if isinstance(op, (Sub, Div)) or not is_plain(op, x):
            return emit_affine(op, x, scale, shift, at)
        return Miss("no layer and no other scale or shift is next to it")


def affine(op: Op, at: Site) -> tuple[Value, Array, Array] | None:
    """(x, scale, shift) of an op that computes x * scale + shift by constants on the last axis."""
    split = split_constant(at, op)
    if split is None:
        return None
    x, constant, first = split
    c = per_channel(constant, x.type.shape[-1] if x.type.rank else 1)
    one, zero = np.ones(()), np.zeros(())
    if c is None:
        return None
    match op:
        case Mul():
            return x, c, zero
        case Add():
            return x, one, c
        case Sub():
            return (x, one, -c) if first else (x, -one, c)
        case Div() if first and np.all(c != 0):
            return x, 1 / c, zero
        case _:
            return None


def is_plain(op: Op, x: Value) -> bool:
    """Whether the constant is written as one number or one row of channels."""
    return all(v == x or v.type.rank <= 1 for v in op.operands)


def in_order(inner: Op, op: Op) -> bool:
    """Whether the two are already in the canonical form: a mul, then an add."""
    return isinstance(inner, Mul) and isinstance(op, Add)


def emit_affine(op: Op, x: Value, scale: Array, shift: Array, at: Site, *merged_ops: Op) -> Value:
    """x * scale + shift in place of `op`, without identities."""
    if np.all(shift == 0):
        return at.replace(Mul(x, at.emit(channel_constant(scale, x))), *merged_ops)
    if np.any(scale != 1):
        x = at.emit(Mul(x, at.emit(channel_constant(scale, x))))
    return at.replace(Add(x, at.emit(channel_constant(shift, x))), *merged_ops)


def into_next(op: Layer, at: Site) -> Value | Miss:
    """conv(x * s + t, w, b) -> conv(x, w * s, b + w . t)."""
    inner = at.producer(op.x)
    parts = affine(inner, at) if isinstance(inner, AFFINE) else None
    if inner is None or parts is None:
        return Miss("x is not scaled or shifted by a constant")
    if at.uses(op.x) != 1:
        return Miss(f"x is read {at.uses(op.x)} times", op.x.name)
    x, scale, shift = parts
    weights, bias = at.constant(op.w), at.constant(op.bias)
    if weights is None or not op.w.type.is_float or (op.bias is not None and bias is None):
        return Miss("weights or bias are not float constants", op.w.name)
    if isinstance(op, Conv) and any(op.pad) and np.any(shift != 0):
        return Miss("the padding would have to be shifted too", op.x.name)
    groups = op.groups if isinstance(op, Conv) else 1
    w = weights.astype(np.float64)
    scaled = w * of_inputs(scale, w, groups)
    total = (w * of_inputs(shift, w, groups)).reshape(len(w), -1).sum(1)
    b = total if bias is None else bias.astype(np.float64) + total
    elem = op.w.type.elem
    return at.replace(
        replace(
            op,
            x=x,
            w=at.emit(Constant.of(scaled, elem)) if np.any(scale != 1) else op.w,
            bias=op.bias if np.all(shift == 0) else at.emit(Constant.of(b, elem)),
        ),
        inner,
    )


def of_inputs(c: Array, weights: Array, groups: int) -> Array:
    """A constant for each input channel, as it meets weights (O, ..., I): output o reads channels
    of its group.
    """
    if c.ndim == 0:
        return c
    outputs, inside = weights.shape[0], weights.shape[-1]
    rows = np.repeat(c.reshape(groups, inside), outputs // groups, axis=0)
    return rows.reshape(outputs, *[1] * (weights.ndim - 2), inside)
