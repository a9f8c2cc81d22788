"""Heads: split, attended to, and joined again."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, shape_of
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Op, Value
from qir.ir.ops.sequence.attention import visible_keys
from qir.ir.select import MASKED, as_floats
from qir.ir.types import Array, Int

BY_HEAD = (0, 2, 1, 3)  # (B, N, heads, size) <-> (B, heads, N, size)


def split(ctx: ImportContext, x: Value, heads: int) -> Value:
    """(B, N, heads * size) as (B, heads, N, size)."""
    if x.type.rank != 3 or heads < 1 or x.type.shape[2] % heads:
        ctx.refuse(f"x is {x.type}, {heads} heads", "(B, N, heads * size) is needed")
    b, n, width = x.type.shape
    by_head = ctx.emit(ops.Reshape(x, (b, n, heads, width // heads)))
    return ctx.emit(ops.Transpose(by_head, BY_HEAD))


def merge_heads(ctx: ImportContext, op: Op) -> Value:
    """What `op` gives, (B, heads, N, size), as (B, N, heads * size), the node's result."""
    x = ctx.emit(op, "heads")
    b, heads, n, size = x.type.shape
    return ctx.result(ops.Reshape(ctx.emit(ops.Transpose(x, BY_HEAD)), (b, n, heads * size)))


@dataclass
class Mask:
    """What is added to scores (B, heads, N, M): constants, and values of the run."""

    constant: Array = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    values: list[Value] = field(default_factory=list)

    def add(self, ctx: ImportContext, mask: Operand) -> None:
        """Floats as they are; booleans, and integers 0 and 1, hide where they are 0."""
        if isinstance(mask, ConstantOperand):
            if mask.array.dtype.kind in "iub":
                self.hide(mask.array == 0)
            else:
                bias = np.where(np.isneginf(mask.array), MASKED, mask.array)
                self.constant = self.constant + bias.astype(np.float32)
        elif isinstance(mask.type.elem, Int):
            self.show(ctx, as_floats(ctx.emit, mask))
        else:
            self.values.append(ctx.valued_real(mask))

    def hide(self, hidden: Array) -> None:
        self.constant = np.where(hidden, np.float32(MASKED), self.constant)

    def show(self, ctx: ImportContext, bits: Value) -> None:
        """Hide what has 0 in bits of the run."""
        low = ctx.emit(ops.Sub(bits, ctx.constant(1, "one")))
        self.values.append(ctx.emit(ops.Mul(low, ctx.constant(-MASKED, "hidden"))))


def attended(
    ctx: ImportContext, q: Value, k: Value, v: Value, scale: float, mask: Mask,
    causal: bool = False, window: int = 0,
) -> ops.MatMul:  # fmt: skip
    """softmax(q @ k.T * scale + mask) @ v of heads (B, heads, N, size); a query from which
    constants hide all keys gives 0.
    """
    k, v = (_repeated(ctx, x, q.type.shape[1]) for x in (k, v))
    scores = ctx.emit(ops.MatMul(q, ctx.emit(ops.Transpose(k, (0, 1, 3, 2)))), "scores")
    scores = ctx.emit(ops.Mul(scores, ctx.constant(scale, "scale")))
    n, m = scores.type.shape[2:]
    if causal or window:
        mask.hide(~visible_keys(n, m, 0, causal, window))
    for value in mask.values:
        scores = ctx.emit(ops.Add(scores, value))
    if mask.constant.any():
        scores = ctx.emit(ops.Add(scores, ctx.constant(mask.constant, "mask")))
    weights = ctx.emit(ops.Softmax(scores))
    empty: Array = np.asarray((mask.constant <= MASKED).all(-1))
    if empty.any():
        visible_rows = ctx.constant(np.where(empty[..., None], 0, 1), "kept")
        weights = ctx.emit(ops.Mul(weights, visible_rows))
    return ops.MatMul(weights, v)


def _repeated(ctx: ImportContext, x: Value, heads: int) -> Value:
    """Each head of k or v as often as q has heads for it."""
    kv_heads = x.type.shape[1]
    if heads % kv_heads:
        ctx.refuse(f"{heads} heads by {kv_heads}", "a multiple is needed")
    if heads == kv_heads:
        return x
    return ctx.emit(ops.Gather(x, Data(np.repeat(np.arange(kv_heads), heads // kv_heads)), 1))


def without(ctx: ImportContext, index: int, role: str) -> None:
    """Refuse an operand that qir has no form of."""
    if ctx.has(index) and 0 not in shape_of(ctx.operand(index)):
        ctx.refuse(f"{role} (input {index}) is given", "none is needed")
