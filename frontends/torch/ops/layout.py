"""torch's channels-first tensors as qir's (N, H, W, C) and back: transposes at the border."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qir.frontends.torch.context import ImportContext
from qir.frontends.torch.table import Unsupported
from qir.ir.op import Value
from qir.ir.ops.window import Pair

Spatial = Sequence[int] | int


@dataclass(frozen=True)
class TorchPlane:
    """A torch tensor (N, C, H, W), (N, C, L) or without N, as `x` (N, H, W, C) with H or N of 1."""

    ctx: ImportContext
    x: Value
    axes: int  # spatial axes of the torch tensor: 1 or 2
    is_batched: bool

    @staticmethod
    def of(ctx: ImportContext, x: Value, axes: int) -> TorchPlane:
        shape = x.type.shape
        if len(shape) not in (axes + 1, axes + 2):
            raise Unsupported(f"x is {list(shape)}", f"rank {axes + 2} or {axes + 1} is needed")
        is_batched = len(shape) == axes + 2
        if not is_batched:
            shape = (1, *shape)
            x = ctx.reshape(x, *shape)
        if axes == 2:
            return TorchPlane(ctx, ctx.transpose(x, 0, 2, 3, 1), axes, is_batched)
        n, c, length = shape
        return TorchPlane(
            ctx, ctx.reshape(ctx.transpose(x, 0, 2, 1), n, 1, length, c), axes, is_batched
        )

    def back(self, y: Value) -> Value:
        """y (N, H, W, C) as a torch tensor of the kind x was."""
        n, _, w, c = y.type.shape
        ctx = self.ctx
        if self.axes == 2:
            y = ctx.transpose(y, 0, 3, 1, 2)
        else:
            y = ctx.transpose(ctx.reshape(y, n, w, c), 0, 2, 1)
        return y if self.is_batched else ctx.reshape(y, *y.type.shape[1:])

    def pair(self, size: Spatial, height: int) -> Pair:
        """A torch size, one number or one for each spatial axis, as (height, width)."""
        sizes = [size] if isinstance(size, int) else [int(s) for s in size]
        if len(sizes) not in (1, self.axes):
            raise Unsupported(f"size {sizes}", f"1 or {self.axes} numbers are needed")
        full = sizes * self.axes if len(sizes) == 1 else sizes
        return (full[0], full[1]) if self.axes == 2 else (height, full[0])


def on_last_axis(ctx: ImportContext, x: Value, axis: int, apply: Callable[[Value], Value]) -> Value:
    """`apply`, which works on the last axis, on another: between transposes."""
    last = x.type.rank - 1
    if axis == last:
        return apply(x)
    perm = [*(a for a in range(last + 1) if a != axis), axis]
    return ctx.transpose(apply(ctx.transpose(x, *perm)), *(perm.index(a) for a in range(last + 1)))
