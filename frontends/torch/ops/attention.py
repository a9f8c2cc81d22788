"""Scaled dot-product attention, with every constant mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from qir.frontends.torch.context import ImportContext, Operand
from qir.frontends.torch.ops.boolean import hidden, opposite
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops import Add, Gather, MatMul, Mul, Softmax
from qir.ir.select import MASKED


@imports("aten.scaled_dot_product_attention.default")
def attention(
    ctx: ImportContext, q: Operand, k: Operand, v: Operand, mask: Operand | None = None,
    dropout: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
    enable_gqa: bool = False, **ignored: Any,
) -> Value:  # fmt: skip
    """softmax(q @ k.T * scale + mask) @ v; scale is 1 / sqrt(size of q's last axis) by default.

    A boolean mask hides where it is False, is_causal what is above the diagonal; rows that a
    constant hides altogether give 0. With enable_gqa each head of k and v serves several of q.
    Source: torch.nn.functional.scaled_dot_product_attention.
    """
    if dropout:
        raise Unsupported(f"attention with dropout {dropout}", "model.eval() is needed")
    query, key, value = ctx.value(q), ctx.value(k), ctx.value(v)
    if enable_gqa:
        key, value = (repeated_heads(ctx, x, query) for x in (key, value))
    rank = key.type.rank
    transposed = ctx.transpose(key, *range(rank - 2), rank - 1, rank - 2)
    factor = 1 / math.sqrt(query.type.shape[-1]) if scale is None else float(scale)
    scores = ctx.add(Mul(ctx.add(MatMul(query, transposed)), ctx.value(factor)))
    if is_causal:
        mask = torch.ones(scores.type.shape[-2:], dtype=torch.bool).tril()
    if isinstance(mask, Value):
        masked_scores = hidden(ctx, opposite(ctx, mask), scores) if ctx.is_mask(mask) else None
        return ctx.add(MatMul(ctx.add(Softmax(masked_scores or ctx.add(Add(scores, mask)))), value))
    rows = None
    if mask is not None:
        bias, rows = additive(ctx.constant(mask, "the mask of an attention"))
        if bias.any():
            scores = ctx.add(Add(scores, ctx.value(bias)))
    weights = ctx.add(Softmax(scores))
    if rows is not None and rows.any():
        weights = ctx.add(Mul(weights, ctx.value((~rows).float())))
    return ctx.add(MatMul(weights, value))


def additive(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The finite mask to add to the scores, and which rows it hides altogether (..., 1)."""
    is_hidden = ~mask if mask.dtype == torch.bool else torch.isneginf(mask)
    bias = torch.zeros(()) if mask.dtype == torch.bool else mask
    return torch.where(is_hidden, MASKED, bias), is_hidden.all(-1, keepdim=True)


def repeated_heads(ctx: ImportContext, x: Value, query: Value) -> Value:
    """x (..., heads, length, size) with each head as often as `query` has heads for it."""
    kv_heads, heads = x.type.shape[-3], query.type.shape[-3]
    if heads % kv_heads:
        raise Unsupported(f"attention of {heads} heads by {kv_heads}", "a multiple is needed")
    if heads == kv_heads:
        return x
    return ctx.add(
        Gather(x, Data(np.repeat(np.arange(kv_heads), heads // kv_heads)), x.type.rank - 3)
    )
