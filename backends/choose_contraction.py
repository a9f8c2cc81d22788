"""Kernels for convolutions and fully connected layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qir.backends.fuse import Group
from qir.backends.kernels import Constants, Contraction, Plane, prepare
from qir.backends.layout import Sides
from qir.backends.place import Place
from qir.backends.select import CONSTANTS, Call, Context, Missing, chooses
from qir.ir.op import Value
from qir.ir.ops import Conv, Linear

INT8 = (-128, 127)


@chooses(Conv)
def choose_conv(group: Group, context: Context) -> Call:
    """conv [+ requantize [+ residual]] -> a contraction over the zero-point-framed plane of x."""
    op = group.anchor
    assert isinstance(op, Conv)
    x = _surrounded(context.place(op.x), op.pad)
    y = _plane(context.place(group.result), group.result)
    spec = _spec(group, context, _plane(x, op.x), y)
    spec = replace(spec, kernel=op.kernel, strides=op.stride, dilations=op.dilation, groups=op.groups)
    return _call(group, context, spec, x, context.array(op.w, "w"), any(op.pad))


@chooses(Linear)
def choose_linear(group: Group, context: Context) -> Call:
    """linear [+ requantize [+ residual]] -> a 1x1 contraction on rows of channels."""
    op = group.anchor
    assert isinstance(op, Linear)
    x, y = context.place(op.x), context.place(group.result)
    spec = _spec(group, context, _plane(x, op.x), _plane(y, group.result))
    weights = context.array(op.w, "w")
    return _call(group, context, spec, x, weights[:, None, None, :], False)


def _plane(place: Place, value: Value) -> Plane:
    plane = place.plane()
    if plane is None:
        raise Missing(f"{value} has strides {list(place.strides)}, adjacent channels are needed")
    return plane


def _surrounded(place: Place, pad: Sides) -> Place:
    """The plane that also holds the frame a padded window reads."""
    top, left, bottom, right = pad
    n, h, w, c = place.shape
    back = (0, -top, -left, 0)
    return place.sliced(back, (n, top + h + bottom, left + w + right, c))


def _spec(group: Group, context: Context, x: Plane, y: Plane) -> Contraction:
    residual = None if group.residual is None else _plane(context.place(group.residual), group.residual)
    low, high = (None, None) if group.tail is None else (group.tail.low, group.tail.high)
    # A kernel of 1x1 fits any x; the caller puts in the real one.
    return Contraction(x, y, residual=residual, low=low, high=high)


def _call(group: Group, context: Context, spec: Contraction, x: Place, weights: Any, padded: bool) -> Call:
    kernel = prepare(spec, _constants(group, context, weights, padded), context.features)
    places: dict[str, Place | None] = {"x": x, CONSTANTS: None}
    if group.residual is not None:
        places["residual"] = context.place(group.residual)
    places["y"] = context.place(group.result)
    (kh, kw), y = spec.kernel, spec.y
    about = f"{kh}x{kw} {spec.x.channels}->{y.channels} on {y.height}x{y.width}, {type(kernel.code).__name__}"
    return Call(kernel, places, spec.macs, about)


def _constants(group: Group, context: Context, weights: Any, padded: bool) -> Constants:
    """Zero points of x and w folded: acc = sum(x * (w - zw)) + (bias - zx * sum(w - zw))."""
    op: Any = group.anchor
    zero_x = int(op.x.type.quant.zero_point.array)
    zero_w = op.w.type.quant.spread(op.w.type.shape)[1]
    wide = weights.astype(np.int64) - (zero_w if zero_w.ndim == 0 else zero_w.reshape(-1, 1, 1, 1))
    if wide.min() < INT8[0] or wide.max() > INT8[1]:
        raise Missing(f"weights less their zero point reach [{wide.min()}, {wide.max()}], 8 bits are needed")
    bias = 0 if op.bias is None else context.array(op.bias, "bias").astype(np.int64)
    low, high = context.range_of(op.x)
    constants = Constants(
        wide.astype(np.int8),
        bias - zero_x * wide.reshape(len(wide), -1).sum(1),
        x_range=(min(low, zero_x), max(high, zero_x)) if padded else (low, high),
    )
    tail = group.tail
    if tail is None:
        return constants
    residual: dict[str, Any] = {}
    if group.residual is not None:
        residual = {
            "residual_mult": tail.mult[group.residual_at].array,
            "residual_zero_point": int(group.residual.type.quant.zero_point.array),
        }
    mult = tail.mult[1 - group.residual_at if group.residual is not None else 0].array
    zero = int(tail.to.zero_point.array)
    return replace(constants, mult=mult, shift=tail.shift.array, zero_point=zero, **residual)
