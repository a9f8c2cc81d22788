"""Transposes between the model's channels-second layout and qir's channels-last layout."""

from __future__ import annotations

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import Operand, shape_of
from qir.ir import ops
from qir.ir.op import Value


def image(ctx: ImportContext, x: Value) -> Value:
    """(N, C, H, W) -> (N, H, W, C); (N, C, L) -> (N, 1, L, C)."""
    rank = x.type.rank
    if rank not in (3, 4):
        ctx.refuse(
            f"x is of rank {rank}",
            "rank 3 or 4 is needed",
            "windows over one or two axes are supported; fold others into the batch",
        )
    y = ctx.emit(ops.Transpose(x, to_last(rank)), "nhwc")
    if rank == 4:
        return y
    n, length, c = y.type.shape
    return ctx.emit(ops.Reshape(y, (n, 1, length, c)), "nhwc")


def from_image(ctx: ImportContext, y: Value, rank: int) -> Value:
    """The inverse of `image` for a model's tensor of `rank`, as the node's result."""
    if rank == 3:
        n, _, length, c = y.type.shape
        y = ctx.emit(ops.Reshape(y, (n, length, c)), "nlc")
    return ctx.result(ops.Transpose(y, from_last(rank)))


def to_last(rank: int) -> tuple[int, ...]:
    """The perm that brings axis 1 to the end."""
    return (0, *range(2, rank), 1)


def from_last(rank: int) -> tuple[int, ...]:
    """The perm that brings the last axis to place 1."""
    return (0, rank - 1, *range(1, rank - 1))


def kernel_2d(ctx: ImportContext, w: Operand) -> Operand:
    """Weights (A, B, k) as (A, B, 1, k); of rank 4 as they are."""
    shape = shape_of(w)
    if len(shape) not in (3, 4):
        ctx.refuse(f"weights of shape {list(shape)}", "rank 3 or 4 is needed")
    return w if len(shape) == 4 else ctx.reshaped(w, (*shape[:2], 1, shape[2]))
