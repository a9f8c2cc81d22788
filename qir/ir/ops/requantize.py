"""The one place where a scale changes: weighted sums, one rounding, one clamp."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme, greatest, least
from qir.ir.data import Data
from qir.ir.fixed import MANTISSA_BITS, MAX_SHIFT, Rounding, shift_right, wrong_ratios
from qir.ir.op import Op, Value, op, stored
from qir.ir.types import I64, Array, Quant, Tensor


@op("requantize")
class Requantize(Op):
    """y = clamp(((sum over i of (x_i - z_i) * mult_i + 2**(shift-1)) >> shift) + zero_point, low,
    high)

    One operand: a change of scale. Two: the add of quantized tensors, or of an accumulator and a
    residual, in one
    rounding. Products and sum in int64; >> is arithmetic; `rounding` says what becomes of ties.
    Shapes: xs broadcast together -> y; each mult, and shift, broadcasts to y (scalar, or (O,) on
            the last axis, or more).
    Units:  x_i in steps of its scale, y in steps of to.scale; mult_i / 2**shift = scale_i /
            to.scale, as near as an integer at this shift can be; negative where one of several
            operands is subtracted. A multiplier for each place may be larger: of a mean over fewer
            elements.
    Needs:  |sum| + 2**(shift-1) < 2**63, proven from bounds.
    Source: HAWQ-V3, arXiv:2011.10680; single rounding of sums: this project.
    """

    has_parameters: ClassVar[bool] = False

    xs: tuple[Value, ...]
    to: Quant
    mult: tuple[Data, ...]
    shift: Data
    low: int
    high: int
    rounding: Rounding

    def infer(self) -> Tensor:
        if not self.xs or len(self.mult) != len(self.xs):
            self.fail(
                f"{len(self.xs)} operands, {len(self.mult)} multipliers",
                "one multiplier for each is needed",
            )
        for x in self.xs:
            if not isinstance(x.type.elem, Quant):
                self.fail(f"{x} is {x.type.elem}", "quantized operands are needed")
        try:
            shape = np.broadcast_shapes(*(x.type.shape for x in self.xs))
            if np.broadcast_shapes(shape, self.shift.shape, *(m.shape for m in self.mult)) != shape:
                self.fail(
                    f"multipliers {[m.shape for m in self.mult]}",
                    f"shapes that broadcast to {shape} are needed",
                )
        except ValueError:
            self.fail(
                f"operands {[x.type.shape for x in self.xs]}", "shapes that broadcast are needed"
            )
        for name, data in (("shift", self.shift), *(("multiplier", m) for m in self.mult)):
            if data.array.dtype.kind != "i":
                self.fail(f"{name} of {data.array.dtype}", "int64 is needed")
        return Tensor(shape, self.to)

    def faults(self) -> Iterator[str]:
        storage, shift = self.to.storage, self.shift.array
        if not storage.min <= self.low <= self.high <= storage.max:
            yield (
                f"{self}: clamp [{self.low}, {self.high}], within"
                f" [{storage.min}, {storage.max}] is needed"
            )
        first, last = Bounds.of_array(shift).ends if shift.size else (1, 1)
        if first < 1 or last > MAX_SHIFT:
            yield f"{self}: shifts [{first}, {last}], 1 to {MAX_SHIFT} are needed"
            return
        for mult in self.mult:
            largest = int(np.abs(mult.array).max(initial=0))
            if largest >= 1 << MANTISSA_BITS:
                yield f"{self}: multiplier {largest}, under 2**{MANTISSA_BITS} is needed"
        yield from self._ratio_faults()

    def _ratio_faults(self) -> Iterator[str]:
        """mult / 2**shift against the scales on both its sides."""
        shape, shift = self.result.type.shape, self.shift.array
        to = self.to.spread(shape)[0]
        mults, ratios = [m.array for m in self.mult], []
        for x, mult in zip(self.xs, mults, strict=True):
            ratio = x.type.quant.spread(x.type.shape)[0] / to
            if len(self.xs) > 1:
                ratio = np.where(mult < 0, -ratio, ratio)
            if mult.ndim > 1:  # a multiplier for each place
                real = np.abs(np.ldexp(mult.astype(np.float64), -shift))
                ratio = np.copysign(np.maximum(real, np.abs(ratio)), ratio)
            ratios.append(ratio)
        for i, actual, expected in wrong_ratios(mults, shift, ratios):
            yield f"{self}: ratio of {self.xs[i]} is {actual:g}, the scales need {expected:g}"

    def evaluate(self, xs: tuple[Array, ...]) -> Array:
        total: Array = np.zeros((), np.int64)
        for x, value, mult in zip(xs, self.xs, self.mult, strict=True):
            zero = value.type.quant.spread(value.type.shape)[1]
            total = total + (x.astype(np.int64) - zero) * mult.array
        zero = self.to.spread(self.result.type.shape)[1]
        y = shift_right(total, self.shift.array, self.rounding) + zero
        return stored(np.clip(y, self.low, self.high), self.result.type)

    def _terms(self, xs: tuple[Bounds, ...]) -> list[Bounds]:
        """Of (x_i - z_i) * mult_i."""
        parts = zip(xs, self.xs, self.mult, strict=True)
        return [Bounds.centred(x, v.type).scaled(m.array) for x, v, m in parts]

    def bound(self, xs: tuple[Bounds, ...]) -> Bounds:
        y = self._shifted(reduce(Bounds.plus, self._terms(xs)))
        zero = Bounds.of_array(self.to.spread(self.result.type.shape)[1])
        return y.plus(zero).clipped(self.low, self.high)

    def _shifted(self, total: Bounds) -> Bounds:
        """Of (total + half) >> shift, which grows or falls with the shift: its ends suffice."""
        total, shift = total.aligned(Bounds.of_array(self.shift.array))
        halves = 0 if self.rounding is Rounding.FLOOR else 1
        lows, highs = (
            [(end + halves * 2 ** (k - 1)) // 2**k for k in (shift.low, shift.high)]
            for end in (total.low, total.high)
        )
        below = 0 if self.rounding in (Rounding.HALF_UP, Rounding.FLOOR) else 1
        return Bounds.of(least(*lows), greatest(*highs)).plus(Bounds.of(-below, 0))

    def extremes(self, xs: tuple[Bounds, ...]) -> Iterator[Extreme]:
        terms = self._terms(xs)
        for x, term in zip(self.xs, terms, strict=True):
            yield Extreme(f"product of {x}", term, I64)
        partial = reduce(Bounds.plus, (t.with_zero() for t in terms))
        half = 2 ** (Bounds.of_array(self.shift.array).ends[1] - 1)
        yield Extreme("sum", partial.plus(Bounds.of(0, half)), I64)
