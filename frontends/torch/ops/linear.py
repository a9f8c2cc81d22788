"""Matrix products: linear layers by constants, matmul of two activations, attention."""

from __future__ import annotations

import math
from typing import Any

import torch

from qir.frontends.torch.context import Held, Number, Site, Stored
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Add, Linear, MatMul, Mul, Softmax


@imports("aten.linear.default")
def linear(site: Site, x: Held, weight: Held, bias: Held | None = None) -> Value:
    """x @ weight.T + bias -> linear, weight (O, I) as it is; a computed weight makes a matmul."""
    if isinstance(weight, Value):
        y = matmul(site, x, site.transpose(weight, 1, 0))
        return y if bias is None else site.add(Add(y, site.value(bias)))
    return site.add(Linear(site.value(x), site.weight(weight, 0, 1), site.optional(bias)))


@imports("aten.addmm.default")
def addmm(
    site: Site, bias: Held, x: Held, weight: Held, *, beta: Number = 1, alpha: Number = 1
) -> Value:
    """beta * bias + alpha * (x @ weight); a linear when weight and bias (O,) are constant."""
    is_row = isinstance(bias, (torch.Tensor, Stored)) and len(bias.shape) == 1
    if beta == alpha == 1 and is_row and not isinstance(weight, Value):
        return site.add(Linear(site.value(x), site.weight(weight, 1, 0), site.value(bias)))
    y, b = matmul(site, x, weight), site.value(bias)
    if alpha != 1:
        y = site.add(Mul(y, site.value(alpha)))
    if beta != 1:
        b = site.add(Mul(b, site.value(beta)))
    return site.add(Add(y, b))


@imports("aten.baddbmm.default")
def baddbmm(
    site: Site, bias: Held, x: Held, weight: Held, *, beta: Number = 1, alpha: Number = 1
) -> Value:
    return addmm(site, site.value(bias), x, weight, beta=beta, alpha=alpha)


@imports(
    "aten.mm.default",
    "aten.bmm.default",
    "aten.matmul.default",
    "aten.mv.default",
    "aten.dot.default",
)
def matmul(site: Site, a: Held, b: Held) -> Value:
    """a @ b -> linear when b is a constant matrix, else matmul; a vector as a matrix of one row."""
    if isinstance(b, (torch.Tensor, Stored)) and len(b.shape) == 2 and isinstance(a, Value):
        return site.add(Linear(a, site.weight(b, 1, 0), None))
    left, right = site.value(a), site.value(b)
    is_row, is_column = left.type.rank == 1, right.type.rank == 1
    if is_row:
        left = site.reshape(left, 1, *left.type.shape)
    if is_column:
        right = site.reshape(right, *right.type.shape, 1)
    y = site.add(MatMul(left, right))
    shape = list(y.type.shape)
    if is_column:
        del shape[-1]
    if is_row:
        del shape[-1 if is_column else -2]
    return site.reshape(y, *shape)


@imports("aten.scaled_dot_product_attention.default")
def attention(
    site: Site, q: Held, k: Held, v: Held, mask: Held | None = None, dropout: float = 0.0,
    is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
    **ignored: Any,
) -> Value:  # fmt: skip
    """softmax(q @ k.T * scale + mask) @ v; scale is 1 / sqrt(size of q's last axis) by default."""
    if is_causal or enable_gqa or dropout:
        found = "is_causal" if is_causal else "enable_gqa" if enable_gqa else f"dropout {dropout}"
        raise Unsupported(
            f"attention with {found}",
            "no mask or a finite additive one, and no dropout, are needed",
        )
    if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        raise Unsupported("attention with a boolean mask", "a finite additive one is needed")
    query, key = site.value(q), site.value(k)
    rank = key.type.rank
    turned = site.transpose(key, *range(rank - 2), rank - 1, rank - 2)
    factor = 1 / math.sqrt(query.type.shape[-1]) if scale is None else float(scale)
    y = site.add(Mul(site.add(MatMul(query, turned)), site.value(factor)))
    if mask is not None:
        y = site.add(Add(y, site.value(mask)))
    return site.add(MatMul(site.add(Softmax(y)), site.value(v)))
