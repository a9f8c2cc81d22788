"""Resize and Upsample: nearest as gathers, linear in two axes as bilinear, others as matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import Operand
from qir.frontends.onnx.ops.coordinates import (
    Axis,
    Method,
    linear_taps,
    matrix,
    nearest,
    outside,
)
from qir.frontends.onnx.ops.layout import from_image, image
from qir.frontends.onnx.read.budget import MAX_ELEMENTS
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Value

Axes = dict[int, Axis]  # the axes that change, by their place in the model's tensor


def upsample(ctx: ImportContext) -> Operand:
    """Upsample: asymmetric; scales as an attribute before opset 9, then as input 1."""
    x = ctx.value(0)
    scales = ctx.numbers("scales") if ctx.opset < 9 else _numbers(ctx, 1, "scales")
    axes = _scaled(ctx, x, scales, range(x.type.rank))
    return resized(ctx, x, axes, ctx.text("mode", "nearest"), Method("asymmetric", "simple"))


def resize(ctx: ImportContext) -> Operand:
    """Resize: scales or sizes, over all axes or those of the attribute."""
    x = ctx.value(0)
    rank, mode = x.type.rank, ctx.text("mode", "nearest")
    if ctx.opset < 11:
        axes = _scaled(ctx, x, _numbers(ctx, 1, "scales"), range(rank))
        return resized(ctx, x, axes, mode, Method("asymmetric", "simple"))
    method = Method(
        ctx.text("coordinate_transformation_mode", "half_pixel"),
        ctx.text("nearest_mode", "round_prefer_floor"),
        ctx.number("cubic_coeff_a", -0.75),
        bool(ctx.integer("exclude_outside", 0)),
        bool(ctx.integer("antialias", 0)),
    )
    attribute = ctx.integers("axes")
    over = tuple(range(rank)) if attribute is None else ctx.axes(attribute, rank)
    sizes = ctx.integer_list(3, "sizes")
    if sizes:
        axes = _sized(ctx, x, sizes, over)
    else:
        axes = _scaled(ctx, x, _numbers(ctx, 2, "scales"), over)
    if method.coordinates == "tf_crop_and_resize":
        axes = _cropped(ctx, x, axes, over)
    return resized(ctx, x, axes, mode, method)


def resized(ctx: ImportContext, x: Value, axes: Axes, mode: str, method: Method) -> Operand:
    """x with each of `axes` read as `method` says."""
    total = math.prod(axes[k].new if k in axes else s for k, s in enumerate(x.type.shape))
    if total > MAX_ELEMENTS:
        ctx.refuse(f"{total} elements", f"at most {MAX_ELEMENTS} are needed")
    if not axes:
        return x
    is_crop = method.coordinates == "tf_crop_and_resize"
    match mode:
        case "nearest" if not is_crop:
            for k, axis in axes.items():
                x = ctx.emit(ops.Gather(x, Data(nearest(ctx, axis, method)), k))
            return x
        case "linear" | "bilinear" if not (is_crop or method.antialias or method.exclude_outside):
            if x.type.rank in (3, 4) and min(axes) >= 2:
                return _bilinear(ctx, x, axes, method)
            return _by_matrices(ctx, x, axes, method, mode)
        case "nearest" | "linear" | "cubic":
            return _by_matrices(ctx, x, axes, method, mode)
    return ctx.refuse(f"mode {mode!r}", "nearest, linear or cubic is needed")


def _bilinear(ctx: ImportContext, x: Value, axes: Axes, method: Method) -> Value:
    """(N, C, H, W) or (N, C, L) with H, W or L read between two neighbours."""
    rank = x.type.rank
    y = image(ctx, x)
    taps = []
    for place in (rank - 2, rank - 1):
        size = y.type.shape[place - rank + 3]
        axis = axes.get(place) if place >= 2 else None
        taps.append(linear_taps(ctx, axis or Axis(size, size, 1.0), _for_axis(method, axis)))
    (rows, u), (columns, v) = taps
    out = ops.Bilinear(y, Data(rows), Data(columns), Data(u), Data(v))
    return from_image(ctx, ctx.emit(out, "bilinear"), rank)


def _for_axis(method: Method, axis: Axis | None) -> Method:
    return method if axis is not None else Method("asymmetric")


def _by_matrices(ctx: ImportContext, x: Value, axes: Axes, method: Method, mode: str) -> Value:
    """Each axis by a constant matrix: brought to the end, linear, brought back."""
    value = ctx.number("extrapolation_value", 0.0)
    is_crop = method.coordinates == "tf_crop_and_resize"
    for k, axis in axes.items():
        w = (
            matrix(ctx, axis, method, mode == "cubic")
            if mode != "nearest"
            else _picks(ctx, axis, method)
        )
        bias = None
        if is_crop and value and outside(ctx, axis, method).any():
            bias = ctx.constant(outside(ctx, axis, method) * value, f"outside{k}")
        perm = [*range(x.type.rank)]
        perm[k], perm[-1] = perm[-1], perm[k]
        last = ctx.emit(ops.Transpose(x, tuple(perm)))
        y = ctx.emit(ops.Linear(last, ctx.constant(w, f"weights{k}"), bias))
        x = ctx.emit(ops.Transpose(y, tuple(perm)))
    return x


def _picks(
    ctx: ImportContext, axis: Axis, method: Method
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The matrix that copies the nearest elements, and nothing outside the axis."""
    w = np.zeros((axis.new, axis.old))
    w[np.arange(axis.new), nearest(ctx, axis, method)] = 1
    w[outside(ctx, axis, method)] = 0
    return w


def _numbers(ctx: ImportContext, index: int, role: str) -> tuple[float, ...] | None:
    numbers = ctx.array(index, role)
    return None if numbers is None else tuple(float(f) for f in numbers.reshape(-1))


def _scaled(
    ctx: ImportContext, x: Value, scales: Sequence[float] | None, over: Sequence[int]
) -> Axes:
    """The axes that change by `scales`: new = floor(old * scale)."""
    if not scales or len(scales) != len(over):
        ctx.refuse(f"scales {scales} for {len(over)} axes", "one for each axis is needed")
    if not all(0 < s < MAX_ELEMENTS for s in scales):
        ctx.refuse(f"scales {list(scales)}", "finite ones over 0 are needed")
    axes = {}
    for k, scale in zip(over, scales, strict=True):
        old = x.type.shape[k]
        new = int(np.floor(np.float32(old) * np.float32(scale)))
        if scale != 1:
            axes[k] = Axis(old, new, scale)
    return axes


def _sized(ctx: ImportContext, x: Value, sizes: Sequence[int], over: Sequence[int]) -> Axes:
    """The axes that change to `sizes`; a policy may keep the ratio between them."""
    if len(sizes) != len(over) or min(sizes) < 1:
        ctx.refuse(
            f"sizes {list(sizes)} for {len(over)} axes", "one of 1 or more for each is needed"
        )
    old = [x.type.shape[k] for k in over]
    scales = [new / size for new, size in zip(sizes, old, strict=True)]
    policy = ctx.text("keep_aspect_ratio_policy", "stretch")
    if policy in ("not_larger", "not_smaller"):
        one = min(scales) if policy == "not_larger" else max(scales)
        scales = [one] * len(over)
        sizes = [math.floor(one * size + 0.5) for size in old]
    elif policy != "stretch":
        ctx.refuse(
            f"keep_aspect_ratio_policy {policy!r}",
            "stretch, not_larger or not_smaller is needed",
        )
    triples = zip(over, old, sizes, scales, strict=True)
    return {k: Axis(o, n, s) for k, o, n, s in triples if o != n or s != 1}


def _cropped(ctx: ImportContext, x: Value, axes: Axes, over: Sequence[int]) -> Axes:
    """Every axis with its region: roi holds all starts, then all ends."""
    roi = _numbers(ctx, 1, "roi")
    if roi is None or len(roi) != 2 * len(over):
        ctx.refuse(f"roi {roi}", f"{2 * len(over)} numbers are needed")
    regions = {}
    for at_, k in enumerate(over):
        size = x.type.shape[k]
        plain = axes.get(k, Axis(size, size, 1.0))
        start, end = roi[at_], roi[at_ + len(over)]
        if k in axes or (start, end) != (0.0, 1.0):
            regions[k] = Axis(plain.old, plain.new, plain.scale, start, end)
    return regions
