"""Reshapes, permutations, and operators that are identities."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from qir.frontends.torch.context import ImportContext, Operand, QuantizedConstant, axis_of
from qir.frontends.torch.table import Unsupported, imports
from qir.ir import select as ids
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops import Expand, Gather, Transpose
from qir.ir.types import Int


@imports(
    "aten.clone.default", "aten.contiguous.default", "aten.detach.default", "aten.alias.default",
    "aten.lift_fresh_copy.default", "aten.lift_fresh.default", "aten.positive.default",
    "aten.view.dtype", "aten.to.device", "aten.to.dtype_layout", "aten.to.dtype",
    "aten._to_copy.default", "aten.type_as.default", "aten.to.other",
)  # fmt: skip
def identity(ctx: ImportContext, x: Operand, *to: Any, **settings: Any) -> Operand:
    """x itself, for all floats become f32; integers of masks as floats 0 and 1."""
    dtype = next((t for t in (*to, *settings.values()) if isinstance(t, torch.dtype)), None)
    if dtype is None:
        return x
    if isinstance(x, Value) and isinstance(x.type.elem, Int):
        if ctx.is_mask(x) and (dtype == torch.bool or dtype.is_floating_point):
            return ctx.bits(x)
        if dtype == torch.bool:
            return ctx.add(ids.COMPARISONS["ne"](x, 0))
        if dtype.is_floating_point:
            raise Unsupported("ids as floats", "booleans, or an input called mask, are needed")
        return x
    if dtype.is_floating_point or ctx.is_mask(x):
        return x
    raise Unsupported(f"a cast to {dtype}", "floats throughout are needed")


@imports("aten.full_like.default")
def full_like(
    ctx: ImportContext, x: Operand, fill: float, dtype: torch.dtype | None = None, **settings: Any
) -> torch.Tensor:
    """A constant: of x its shape alone counts, which is fixed."""
    return new_full(ctx, x, ctx.value(x).type.shape, fill, dtype)


@imports("aten.zeros_like.default")
def zeros_like(ctx: ImportContext, x: Operand, **settings: Any) -> torch.Tensor:
    return full_like(ctx, x, 0, **settings)


@imports("aten.ones_like.default")
def ones_like(ctx: ImportContext, x: Operand, **settings: Any) -> torch.Tensor:
    return full_like(ctx, x, 1, **settings)


@imports("aten.new_full.default")
def new_full(
    ctx: ImportContext,
    x: Operand,
    size: Sequence[int],
    fill: float,
    dtype: torch.dtype | None = None,
    **settings: Any,
) -> torch.Tensor:
    return torch.full(tuple(size), fill, dtype=dtype or torch.float32)


@imports("aten.new_zeros.default")
def new_zeros(ctx: ImportContext, x: Operand, size: Sequence[int], **settings: Any) -> torch.Tensor:
    return new_full(ctx, x, size, 0, **settings)


@imports("aten.new_ones.default")
def new_ones(ctx: ImportContext, x: Operand, size: Sequence[int], **settings: Any) -> torch.Tensor:
    return new_full(ctx, x, size, 1, **settings)


@imports("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default",
         "aten.feature_alpha_dropout.default", "aten.native_dropout.default")  # fmt: skip
def dropout(ctx: ImportContext, x: Operand, p: float, train: bool | None) -> Operand:
    """x itself in inference."""
    if train and p:
        raise Unsupported("dropout in training mode", "model.eval() before torch.export is needed")
    return x


@imports("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default",
         "aten._reshape_alias.default")  # fmt: skip
def view(ctx: ImportContext, x: Operand, shape: Sequence[int], *strides: Any) -> Value:
    """view -> reshape; one size may be -1."""
    at = ctx.value(x)
    sizes = [int(s) for s in shape]
    if -1 in sizes:
        size = prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = at.type.size // size if size else 0
    return ctx.reshape(at, *sizes)


@imports("aten.view_as.default", "aten.reshape_as.default")
def view_as(ctx: ImportContext, x: Operand, other: Operand) -> Value:
    return view(ctx, x, ctx.value(other).type.shape)


@imports("aten.flatten.using_ints")
def flatten(ctx: ImportContext, x: Operand, start_dim: int = 0, end_dim: int = -1) -> Value:
    at = ctx.value(x)
    shape = at.type.shape
    first, last = axis_of(start_dim, len(shape)), axis_of(end_dim, len(shape))
    return ctx.reshape(at, *shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


@imports("aten.unflatten.int")
def unflatten(ctx: ImportContext, x: Operand, dim: int, sizes: Sequence[int]) -> Value:
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    size = prod(s for s in sizes if s != -1)
    filled = [at.type.shape[axis] // size if s == -1 else int(s) for s in sizes]
    return ctx.reshape(at, *at.type.shape[:axis], *filled, *at.type.shape[axis + 1 :])


@imports("aten.permute.default")
def permute(ctx: ImportContext, x: Operand, dims: Sequence[int]) -> Operand:
    """permute -> transpose; at import on quantized weights."""
    if isinstance(x, QuantizedConstant):
        return x.permuted([axis_of(d, len(x.shape)) for d in dims])
    at = ctx.value(x)
    return ctx.transpose(at, *(axis_of(d, at.type.rank) for d in dims))


@imports("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default")
def transpose(ctx: ImportContext, x: Operand, dim0: int, dim1: int) -> Operand:
    rank = len(x.shape) if isinstance(x, QuantizedConstant) else ctx.value(x).type.rank
    perm = list(range(rank))
    a, b = axis_of(dim0, rank), axis_of(dim1, rank)
    perm[a], perm[b] = perm[b], perm[a]
    return permute(ctx, x, perm)


@imports("aten.t.default", "aten.numpy_T.default", "aten.mT.default")
def swap_last_axes(ctx: ImportContext, x: Operand) -> Operand:
    """The last two axes swapped (both axes of a matrix; a vector stays)."""
    rank = len(x.shape) if isinstance(x, QuantizedConstant) else ctx.value(x).type.rank
    return x if rank < 2 else transpose(ctx, x, -1, -2)


@imports("aten.movedim.int", "aten.movedim.intlist", "aten.moveaxis.int")
def movedim(
    ctx: ImportContext, x: Operand, source: int | Sequence[int], to: int | Sequence[int]
) -> Operand:
    at = ctx.value(x)
    rank = at.type.rank
    pairs = zip(*([d] if isinstance(d, int) else d for d in (source, to)), strict=True)
    sources = {axis_of(t, rank): axis_of(s, rank) for s, t in pairs}
    rest = iter(a for a in range(rank) if a not in sources.values())
    return permute(ctx, at, [sources[a] if a in sources else next(rest) for a in range(rank)])


@imports("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(ctx: ImportContext, x: Operand, dim: int | Sequence[int] | None = None) -> Value:
    at = ctx.value(x)
    shape = at.type.shape
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    removed_axes = {axis_of(d, len(shape)) for d in dims}
    return ctx.reshape(at, *(s for i, s in enumerate(shape) if s != 1 or i not in removed_axes))


@imports("aten.unsqueeze.default")
def unsqueeze(ctx: ImportContext, x: Operand, dim: int) -> Value:
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank + 1)
    return ctx.reshape(at, *at.type.shape[:axis], 1, *at.type.shape[axis:])


@imports("aten.expand.default")
def expand(ctx: ImportContext, x: Operand, size: Sequence[int], *, implicit: bool = False) -> Value:
    """expand -> expand; -1 keeps a size."""
    at = ctx.value(x)
    shape = (*(1,) * (len(size) - at.type.rank), *at.type.shape)
    full = tuple(s if z == -1 else int(z) for s, z in zip(shape, size, strict=True))
    return at if full == at.type.shape else ctx.add(Expand(at, full))


@imports("aten.copy.default")
def copy(ctx: ImportContext, x: Operand, source: Operand, non_blocking: bool = False) -> Value:
    """The value of x after `source` is assigned to all of it."""
    return expand(ctx, source, ctx.value(x).type.shape)


@imports("aten.expand_as.default")
def expand_as(ctx: ImportContext, x: Operand, other: Operand) -> Value:
    return expand(ctx, x, ctx.value(other).type.shape)


@imports("aten.repeat.default")
def repeat(ctx: ImportContext, x: Operand, repeats: Sequence[int]) -> Value:
    """Each axis r times: reshape to (1, size), expand to (r, size), reshape to r * size."""
    at = ctx.value(x)
    shape = (*(1,) * (len(repeats) - at.type.rank), *at.type.shape)
    pairs = list(zip(repeats, shape, strict=True))
    if all(r == 1 for r in repeats):
        return ctx.reshape(at, *shape)
    y = ctx.reshape(at, *(n for _, s in pairs for n in (1, s)))
    y = ctx.add(Expand(y, tuple(n for r, s in pairs for n in (int(r), s))))
    return ctx.reshape(y, *(r * s for r, s in pairs))


@imports("aten.pixel_shuffle.default")
def pixel_shuffle(ctx: ImportContext, x: Operand, r: int) -> Value:
    """(N, C * r * r, H, W) -> (N, C, H * r, W * r), between transposes."""
    image, lead = images(ctx, x)
    n, h, w, c = image.type.shape
    if c % (r * r):
        raise Unsupported(
            f"pixel_shuffle of {c} channels by {r}", f"a multiple of {r * r} is needed"
        )
    y = ctx.reshape(image, n, h, w, c // (r * r), r, r)
    y = ctx.reshape(ctx.transpose(y, 0, 1, 4, 2, 5, 3), n, h * r, w * r, c // (r * r))
    return channels_first(ctx, y, lead)


@imports("aten.pixel_unshuffle.default")
def pixel_unshuffle(ctx: ImportContext, x: Operand, r: int) -> Value:
    """(N, C, H * r, W * r) -> (N, C * r * r, H, W), between transposes."""
    image, lead = images(ctx, x)
    n, h, w, c = image.type.shape
    if h % r or w % r:
        raise Unsupported(f"pixel_unshuffle of {h}x{w} by {r}", "a divisor of both is needed")
    y = ctx.reshape(image, n, h // r, r, w // r, r, c)
    y = ctx.reshape(ctx.transpose(y, 0, 1, 3, 5, 2, 4), n, h // r, w // r, c * r * r)
    return channels_first(ctx, y, lead)


@imports("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(ctx: ImportContext, x: Operand, groups: int) -> Value:
    """Channel g * (C / G) + k goes to k * G + g: a gather along the channels."""
    at = ctx.value(x)
    order = np.arange(at.type.shape[1]).reshape(groups, -1).T.reshape(-1)
    return ctx.add(Gather(at, Data(order), 1))


def images(ctx: ImportContext, x: Operand) -> tuple[Value, tuple[int, ...]]:
    """x (..., C, H, W) as (N, H, W, C), and its leading sizes."""
    at = ctx.value(x)
    if at.type.rank < 3:
        raise Unsupported(f"x is {list(at.type.shape)}", "rank 3 or more is needed")
    lead, (c, h, w) = at.type.shape[:-3], at.type.shape[-3:]
    return ctx.add(Transpose(ctx.reshape(at, prod(lead), c, h, w), (0, 2, 3, 1))), lead


def channels_first(ctx: ImportContext, y: Value, lead: tuple[int, ...]) -> Value:
    """y (N, H, W, C) as (*lead, C, H, W)."""
    _, h, w, c = y.type.shape
    return ctx.reshape(ctx.transpose(y, 0, 3, 1, 2), *lead, c, h, w)
