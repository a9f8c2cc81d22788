"""Kernels for convolutions and fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qir.backends.kernels import Constants, ContractionSpec, Plane, prepare
from qir.backends.kernels.contraction.bits import PLANES
from qir.backends.kernels.contraction.spec import RowTail
from qir.backends.kernels.contraction.wide import wide
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.scale import Scale
from qir.backends.lowering.choose.elementwise import one_zero_point, scale_of
from qir.backends.lowering.choose.sequence import row_numbers
from qir.backends.lowering.context import Call, Context, NoKernel, call
from qir.backends.lowering.fuse import Fusion
from qir.backends.lowering.layout import Sides
from qir.backends.lowering.place import Place
from qir.ir import rows
from qir.ir.op import Value
from qir.ir.ops import Conv, Linear, ScaleRows
from qir.ir.types import Array

FAST_INPUTS = ("uint8", "int8")
"""What the dot instructions read; other inputs, and weights beyond int8, go to the wide kernel."""


@dataclass(frozen=True, eq=False)
class _Numbers:
    """acc = sum(x * weights) + bias over stored x: zero points folded.

    `x_range`: of stored x, padding included. `stored`: what is stored of the weights.
    """

    weights: Array
    bias: Array
    x_range: tuple[int, int]
    stored: _StoredWeights


@dataclass(frozen=True, eq=False)
class _StoredWeights:
    """Weights (O, ky, kx, I) of so many bits; by group, times `mult` for `block` channels each."""

    weights: Array
    bits: int
    mult: Array | None = None
    block: int = 0

    @property
    def are_narrow(self) -> bool:
        low, high = RANGE["int8"]
        return bool(self.weights.min() >= low and self.weights.max() <= high)


@dataclass(frozen=True)
class _Shape:
    """The geometry of a contraction; `x` is where its input lies, the frame included."""

    x: Place
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    is_padded: bool = False


def choose_conv(fusion: Fusion, context: Context) -> Call:
    """conv [+ requantize [+ residual]] -> a contraction over the zero-point-framed plane of x."""
    op = fusion.anchor
    assert isinstance(op, Conv)
    x = _surrounded(context.place(op.x), op.pad)
    shape = _Shape(x, op.stride, op.dilation, op.groups, any(op.pad))
    return _contract(fusion, context, shape, context.array(op.w, "w"))


def choose_linear(fusion: Fusion, context: Context) -> Call:
    """linear [+ requantize [+ residual]] -> a 1x1 contraction on rows of channels."""
    op = fusion.anchor
    assert isinstance(op, Linear)
    if (call := context.calls.get(fusion.result.name)) is not None:
        return call
    weights = context.array(op.w, "w")[:, None, None, :]
    shape = _Shape(context.place(op.x))
    if fusion.rows is not None:
        return _by_rows(fusion, fusion.rows, context, shape, weights)
    return _contract(fusion, context, shape, weights)


def _by_rows(fusion: Fusion, op: ScaleRows, context: Context, shape: _Shape, stored: Array) -> Call:
    """linear + scale_rows -> a contraction whose sums are scaled by rows before they are stored."""
    numbers = _numbers(fusion, context, shape, stored)
    values = {"x": fusion.anchor.operands[0], "scale": op.scale, "y": op.result}
    if op.residual is not None:
        values["residual"] = op.residual
    places = {name: context.place(value) for name, value in values.items()}
    planes = {name: _plane(place, values[name]) for name, place in places.items()}
    y, storage = planes["y"], op.to.storage
    low, high = (int(rows.exponent(np.array(end))) for end in context.range_of(op.scale))
    bits = op.residual.type.quant.storage.max.bit_length() if op.residual is not None else 0
    tail = RowTail(
        planes["scale"],
        planes.get("residual"),
        y.dtype,
        storage.min,
        storage.max,
        (low, high),
        bits,
    )
    spec = ContractionSpec(
        planes["x"], replace(y, dtype="int32"), alignment=context.alignment(shape.x),
        any_rows=True, rows=tail,
    )  # fmt: skip
    constants = replace(_constants(fusion, numbers), rows=row_numbers(op))
    title = f"{spec.x.channels}->{y.channels} on {y.batch * y.height * y.width} rows"
    return call(prepare(spec, constants, context.features), places, title, spec.macs)


def _surrounded(place: Place, pad: Sides) -> Place:
    """The plane that also holds the frame a padded window reads."""
    top, left, bottom, right = pad
    n, h, w, c = place.shape
    return place.sliced((0, -top, -left, 0), (n, top + h + bottom, left + w + right, c))


def _contract(fusion: Fusion, context: Context, shape: _Shape, stored: Array) -> Call:
    numbers = _numbers(fusion, context, shape, stored)
    x, y = (
        _plane(shape.x, fusion.anchor.operands[0]),
        _plane(context.place(fusion.result), fusion.result),
    )
    places = {"x": shape.x, "y": context.place(fusion.result)}
    residual = None
    if fusion.residual is not None:
        places["residual"] = context.place(fusion.residual)
        residual = _plane(places["residual"], fusion.residual)
    kernel: Any
    if x.dtype in FAST_INPUTS and numbers.stored.are_narrow:
        kernel = _fast(fusion, context, shape, numbers, x, y, residual)
    else:
        kernel = _wide(fusion, context, shape, numbers, x, y, residual)
    out, kh, kw, inner = numbers.weights.shape
    macs = y.batch * y.height * y.width * out * kh * kw * inner
    title = f"{kh}x{kw} {x.channels}->{out} on {y.height}x{y.width}"
    return call(kernel, places, title, macs)


def _plane(place: Place, value: Value) -> Plane:
    plane = place.plane()
    if plane is None:
        raise NoKernel(f"{value} has strides {list(place.strides)}, adjacent channels are needed")
    return plane


def _numbers(fusion: Fusion, context: Context, shape: _Shape, stored: Array) -> _Numbers:
    """sum((x - zx) * (w - zw)) + b = sum(x * (w - zw)) + (b - zx * sum(w - zw))."""
    op: Any = fusion.anchor
    zero_x = int(op.x.type.quant.zero_point.array)
    zero_w = op.w.type.quant.zero_point.array
    weights = stored
    if np.any(zero_w):
        weights = stored.astype(np.int64) - zero_w.reshape(-1, 1, 1, 1)
    bias = 0 if op.bias is None else context.array(op.bias, "bias").astype(np.int64)
    low, high = context.range_of(op.x)
    reach = (min(low, zero_x), max(high, zero_x)) if shape.is_padded else (low, high)
    bias = bias - zero_x * weights.reshape(len(weights), -1).sum(1, dtype=np.int64)
    return _Numbers(weights, bias, reach, _stored_weights(context, op.w, weights))


def _stored_weights(context: Context, value: Value, weights: Array) -> _StoredWeights:
    """Weights less their zero points, as they are stored or, where those no longer fit, in 8 bits.

    The only weight of a depthwise filter's tap is a group by itself: nothing is gained by it.
    """
    grouped = context.grouped.get(value.name)
    if grouped is not None and weights.shape[-1] > 1:
        mult = context.array(grouped.mult, "mult").reshape(*weights.shape[:-1], -1)
        small = context.array(grouped.w, "w").reshape(weights.shape)
        return _StoredWeights(small, grouped.w.type.quant.storage.bits, mult, grouped.block)
    bits = value.type.quant.storage.bits
    half = 1 << (bits - 1)
    fit = bits in PLANES and weights.min() >= -half and weights.max() < half
    return _StoredWeights(weights, bits if fit else 8)


def _fast(
    fusion: Fusion,
    context: Context,
    shape: _Shape,
    numbers: _Numbers,
    x: Plane,
    y: Plane,
    residual: Plane | None,
) -> Any:
    """The kernel around the machine's dot instruction."""
    tail = fusion.tail
    low, high = (None, None) if tail is None else (tail.low, tail.high)
    _, kh, kw, _ = numbers.weights.shape
    spec = ContractionSpec(
        x,
        y,
        (kh, kw),
        shape.strides,
        shape.dilations,
        shape.groups,
        residual=residual,
        low=low,
        high=high,
        alignment=context.alignment(shape.x),
        any_rows=isinstance(fusion.anchor, Linear),
    )
    return prepare(spec, _constants(fusion, numbers), context.features)


def _constants(fusion: Fusion, numbers: _Numbers) -> Constants:
    """The numbers of the contraction, and of the tail's requantize."""
    tail, stored = fusion.tail, numbers.stored
    constants = Constants(
        stored.weights.astype(np.int8, copy=False),
        numbers.bias,
        x_range=numbers.x_range,
        bits=stored.bits,
        group_mult=stored.mult,
        block=stored.block,
    )
    if tail is not None:
        zero = one_zero_point(tail.result)
        mult = tail.mult[fusion.accumulator_at].array
        constants = replace(constants, mult=mult, shift=tail.shift.array, zero_point=zero)
    if tail is not None and fusion.residual is not None:
        constants = replace(
            constants,
            residual_mult=tail.mult[1 - fusion.accumulator_at].array,
            residual_zero_point=int(fusion.residual.type.quant.zero_point.array),
        )
    return constants


def _wide(
    fusion: Fusion,
    context: Context,
    shape: _Shape,
    numbers: _Numbers,
    x: Plane,
    y: Plane,
    residual: Plane | None,
) -> Any:
    """The kernel for inputs or weights of 16 bits."""
    low, high = RANGE["int32"]
    if numbers.bias.min() < low or numbers.bias.max() > high:
        raise NoKernel(
            f"the bias with zero points folded reaches {np.abs(numbers.bias).max()},"
            " 32 bits are needed"
        )
    scale: Scale | None = None
    zero = 0
    if fusion.tail is not None:
        scale = scale_of(fusion.tail)
        mults = scale.mult if fusion.accumulator_at == 0 else scale.mult[::-1]
        scale = replace(scale, mult=mults)
    if fusion.residual is not None:
        zero = int(fusion.residual.type.quant.zero_point.array)
    return wide(
        x, y, numbers.weights, numbers.bias, context.features,
        shape.strides, shape.dilations, shape.groups, scale, residual, zero,
    )  # fmt: skip
