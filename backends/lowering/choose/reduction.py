"""Kernels for pooling and whole-axis reductions."""

from __future__ import annotations

from qir.backends.kernels import pool, reduce
from qir.backends.kernels.plane import Plane
from qir.backends.lowering.choose.elementwise import epilogue_scale
from qir.backends.lowering.context import Call, Context, NoKernel, call
from qir.backends.lowering.fuse import Fusion
from qir.backends.lowering.layout import zero_of
from qir.backends.lowering.place import Place
from qir.ir.op import Value
from qir.ir.ops import AvgPool, MaxPool, ReduceMax
from qir.ir.ops.reduce import Reduce, Total


def plane_of(value: Value, context: Context) -> Plane:
    """Where a value lies, as (N, H, W, C)."""
    place = context.place(value)
    plane = place.plane()
    if plane is None:
        raise NoKernel(f"{value} has strides {list(place.strides)}, adjacent channels are needed")
    return plane


def _window(op: MaxPool | AvgPool) -> pool.PoolWindow:
    return pool.PoolWindow(op.kernel, op.stride, op.pad, op.dilation)


def choose_max_pool(fusion: Fusion, context: Context) -> Call:
    """max_pool -> windows on the plane of x, padding never read."""
    op = fusion.anchor
    assert isinstance(op, MaxPool)
    x, y = plane_of(op.x, context), plane_of(op.result, context)
    kernel = pool.max_pool(x, y, _window(op), context.features)
    return call(kernel, {"x": context.place(op.x), "y": context.place(op.result)})


def choose_avg_pool(fusion: Fusion, context: Context) -> Call:
    """avg_pool [+ requantize] -> sums of windows, scaled."""
    op = fusion.anchor
    assert isinstance(op, AvgPool)
    x, y = plane_of(op.x, context), plane_of(fusion.result, context)
    scale = epilogue_scale(fusion)
    kernel = pool.sum_pool(x, y, _window(op), zero_of(op.x), context.features, scale)
    return call(kernel, {"x": context.place(op.x), "y": context.place(fusion.result)})


def choose_reduce_sum(fusion: Fusion, context: Context) -> Call:
    """reduce_mean or reduce_sum [+ requantize] -> sums, scaled."""
    op = fusion.anchor
    assert isinstance(op, Total)
    x, y = context.place(op.x), _with_reduced_axes(op, context.place(fusion.result))
    scale = epilogue_scale(fusion)
    kernel = reduce.reduce_sum(x.view, op.axes, zero_of(op.x), y.view, context.features, scale)
    return call(kernel, {"x": x, "y": y})


def choose_reduce_max(fusion: Fusion, context: Context) -> Call:
    """reduce_max -> the greatest of whole axes."""
    op = fusion.anchor
    assert isinstance(op, ReduceMax)
    x, y = context.place(op.x), _with_reduced_axes(op, context.place(op.result))
    return call(reduce.reduce_max(x.view, op.axes, y.view, context.features), {"x": x, "y": y})


def _with_reduced_axes(op: Reduce, y: Place) -> Place:
    """The result with its reduced axes as 1."""
    shape = tuple(1 if i in op.axes else s for i, s in enumerate(op.x.type.shape))
    place = y.reshaped(shape)
    assert place is not None  # axes of 1 cost nothing
    return place
