"""Pooling over windows of (N, H, W, C)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Interval, Op, Value, op
from qir.ir.ops.accumulate import centred_extreme
from qir.ir.ops.kinds import Selection
from qir.ir.ops.window import Pair, Sides, pad_torch, padded, window_fault, window_sizes, windows
from qir.ir.types import I32, Array, Quant, Tensor, integer_of


@dataclass(frozen=True, repr=False)
class Pool(Op):
    """A reduction over each window. Shapes: x (N, H, W, C) -> (N, OH, OW, C); pad is (top, left,
    bottom, right).
    """

    homogeneous: ClassVar[bool] = True

    x: Value
    kernel: Pair
    stride: Pair
    pad: Sides
    dilation: Pair

    def pooled(self) -> tuple[int, ...]:
        x = self.x.type
        if x.rank != 4:
            self.fail(f"x is {x}", "rank 4 is needed")
        if fault := window_fault(self.kernel, self.stride, self.pad, self.dilation):
            self.fail(fault, "positive sizes and pads of at least 0 are needed")
        oh, ow = window_sizes(
            x.shape[1], x.shape[2], self.kernel, self.stride, self.pad, self.dilation
        )
        if min(oh, ow) < 1:
            self.fail(
                f"kernel {self.kernel} on {x.shape[1]}x{x.shape[2]}",
                "a window inside the padded input is needed",
            )
        return (x.shape[0], oh, ow, x.shape[3])

    def faults(self) -> Iterator[str]:
        for axis, size in enumerate(self.x.type.shape[1:3]):
            sides = self.pad[axis], self.pad[axis + 2]
            window = self.kernel[axis], self.stride[axis], self.dilation[axis]
            if not all_windows_reach(size, sides, *window):
                yield (
                    f"{self}: pad {self.pad}, dilation {self.dilation}: a window {self.kernel} of"
                    " padding alone, an element in each is needed"
                )
                return


def all_windows_reach(size: int, sides: Pair, kernel: int, stride: int, dilation: int) -> bool:
    """Whether each window along an axis of `size` elements has one that is not padding."""
    first = np.arange(0, sum(sides) + size - dilation * (kernel - 1), stride)[:, None] - sides[0]
    taps = first + dilation * np.arange(kernel)
    return bool(np.all(np.any((taps >= 0) & (taps < size), axis=1)))


@op("max_pool")
class MaxPool(Selection, Pool):
    """y = the greatest of the window's elements, padding left out; stored values keep their type.

    Shapes: x (N, H, W, C) -> (N, OH, OW, C).
    """

    x: Value
    kernel: Pair
    stride: Pair
    pad: Sides
    dilation: Pair

    def infer(self) -> Tensor:
        shape, elem = self.pooled(), self.x.type.elem
        if isinstance(elem, Quant) and elem.axis not in (None, 3):
            self.fail(f"x is quantized along axis {elem.axis}", "one scale in a window is needed")
        return Tensor(shape, elem)

    def compute(self, torch: Any, x: Any) -> Any:
        storage = integer_of(self.x.type.elem)
        least = float("-inf") if storage is None else storage.min
        x = pad_torch(torch, x.permute(0, 3, 1, 2), self.pad, least)
        y = torch.nn.functional.max_pool2d(x, self.kernel, self.stride, 0, self.dilation)
        return y.permute(0, 2, 3, 1)

    def evaluate(self, x: Array) -> Array:
        storage = integer_of(self.x.type.elem)
        assert storage is not None
        view = windows(padded(x, self.pad, storage.min), self.kernel, self.stride, self.dilation)
        return np.ascontiguousarray(view.max(axis=(3, 4)))

    def bound(self, x: Bounds) -> Bounds:
        return x.of_channels


@op("avg_pool")
class AvgPool(Pool):
    """y = sum of the window / count; count is kh * kw, or with count_pad false the elements that
    are not padding.

    On a quantized x (which needs count_pad, or no padding) the exact i32 sum of (x - zero_point),
    of scale
    s / (kh * kw) and zero point 0: sum, then dyadic.
    Shapes: x (N, H, W, C) -> (N, OH, OW, C).
    """

    accumulates: ClassVar[bool] = True

    x: Value
    kernel: Pair
    stride: Pair
    pad: Sides
    dilation: Pair
    count_pad: bool

    def infer(self) -> Tensor:
        shape = self.pooled()
        if self.x.type.is_float:
            return Tensor(shape, self.x.type.elem)
        return Tensor(shape, averaged(self, self.x, self.kernel[0] * self.kernel[1]))

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if not self.x.type.is_float and any(self.pad) and not self.count_pad:
            yield (
                f"{self}: quantized without its padding, count_pad is needed (to-integer writes"
                " counts as ratios)"
            )

    def reals(self, *operands: Interval) -> Interval:
        ((low, high),) = operands  # a mean of floats may be a rounding outside of them
        return (0.0 if low >= 0 else -math.inf), (0.0 if high <= 0 else math.inf)

    def counts(self) -> Array:
        """(OH, OW, 1): how many elements that are not padding each window holds."""
        ones = padded(np.ones((1, *self.x.type.shape[1:3], 1), np.int64), self.pad, 0)
        counts: Array = windows(ones, self.kernel, self.stride, self.dilation).sum(axis=(3, 4))
        return np.asarray(counts[0])

    def compute(self, torch: Any, x: Any) -> Any:
        c = self.x.type.shape[3]
        ones = torch.ones((c, 1, *self.kernel), dtype=x.dtype)
        x = pad_torch(torch, x.permute(0, 3, 1, 2), self.pad, 0.0)
        total = torch.nn.functional.conv2d(x, ones, None, self.stride, 0, self.dilation, c).permute(
            0, 2, 3, 1
        )
        return total / (
            self.kernel[0] * self.kernel[1] if self.count_pad else torch.from_numpy(self.counts())
        )

    def evaluate(self, x: Array) -> Array:
        zero = np.int32(self.x.type.quant.zero_point.array)
        view = windows(
            padded(x.astype(np.int32) - zero, self.pad, 0), self.kernel, self.stride, self.dilation
        )
        return np.ascontiguousarray(view.sum(axis=(3, 4), dtype=np.int32))

    def bound(self, x: Bounds) -> Bounds:
        return summed(self.x, x, self.kernel[0] * self.kernel[1])

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        yield from centred_extreme(self.x, x)
        yield Extreme("sum", self.bound(x), I32)


def averaged(op_: Op, x: Value, count: int) -> Quant:
    """The type of an exact sum of `count` elements that stands for their mean: i32, scale / count,
    zero point 0.
    """
    q = x.type.elem
    if not isinstance(q, Quant) or not q.is_per_tensor:
        op_.fail(f"x is {q}", "floats, or one scale, are needed")
    return Quant.per_tensor(I32, float(q.scale.array) / count, 0)


def summed(x: Value, bounds: Bounds, count: int) -> Bounds:
    """Bounds of the sum of up to `count` elements of (x - zero_point)."""
    return Bounds.centred(bounds, x.type).with_zero().scaled(count).forgotten
