"""The one place where a scale changes: weighted sums, one rounding, one clamp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.fixed import Rounding, shift_right
from qir.ir.op import Op, Value, op, stored
from qir.ir.types import Array, Quant, Tensor

RATIO_BITS = 10  # a multiplier may be this many bits off before the scales are taken to disagree


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
            to.scale, signed.
    Needs:  |sum| + 2**(shift-1) < 2**63, proven from bounds.
    Source: HAWQ-V3, arXiv:2011.10680; single rounding of sums: this project.
    """

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
        return Tensor(shape, self.to)

    def faults(self) -> Iterator[str]:
        kept, shift = self.to.storage, self.shift.array
        if not kept.min <= self.low <= self.high <= kept.max:
            yield (
                f"{self}: clamp [{self.low}, {self.high}], within [{kept.min}, {kept.max}] is"
                " needed"
            )
        if shift.min() < 1 or shift.max() > 62:
            yield f"{self}: shifts [{shift.min()}, {shift.max()}], 1 to 62 are needed"
        for x, mult in zip(self.xs, self.mult, strict=True):
            if np.abs(mult.array).max() >= 1 << 31:
                yield f"{self}: multiplier {np.abs(mult.array).max()}, under 2**31 is needed"
            yield from self._ratio_faults(x, mult)

    def _ratio_faults(self, x: Value, mult: Data) -> Iterator[str]:
        if max(mult.array.ndim, self.shift.array.ndim) > 1 or not self.to.is_per_tensor:
            return  # a multiplier for each place also holds a count: average pooling at the border
        want = x.type.quant.scale.array / self.to.scale.array
        have = np.ldexp(np.abs(mult.array).astype(np.float64), -self.shift.array)
        slack = np.maximum(np.ldexp(1.0, -self.shift.array), want * 2.0**-RATIO_BITS)
        wrong = np.abs(have - want) > slack
        if np.any(wrong):
            at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            have, want = (float(np.broadcast_to(v, wrong.shape)[at]) for v in (have, want))
            yield f"{self}: ratio of {x} is {have:g}, the scales need {want:g}"

    def evaluate(self, xs: tuple[Array, ...]) -> Array:
        total: Array = np.zeros((), np.int64)
        for x, value, mult in zip(xs, self.xs, self.mult, strict=True):
            zero = value.type.quant.spread(value.type.shape)[1]
            total = total + (x.astype(np.int64) - zero) * mult.array
        zero = self.to.spread(self.result.type.shape)[1]
        y = shift_right(total, self.shift.array, self.rounding) + zero
        return stored(np.clip(y, self.low, self.high), self.result.type)

    def _total(self, xs: tuple[Any, ...]) -> tuple[Bounds, list[Bounds]]:
        terms = []
        for x, value, mult in zip(xs, self.xs, self.mult, strict=True):
            known = x if isinstance(x, Bounds) else Bounds.of(int(x.min()), int(x.max()))
            zero = value.type.quant.zero_point.array
            centred = Bounds.of(known.low - zero.astype(object), known.high - zero.astype(object))
            if mult.array.ndim > 1:  # a multiplier for each place: channels are forgotten
                (low, high), (a, b) = centred.whole, (int(mult.array.min()), int(mult.array.max()))
                corners = [low * a, low * b, high * a, high * b]
                terms.append(Bounds.of(min(corners), max(corners)))
            else:
                terms.append(centred.scaled(mult.array))
        total = terms[0]
        for t in terms[1:]:
            total = total.plus(t)
        return total, terms

    def bound(self, xs: tuple[Any, ...]) -> Bounds:
        total, _ = self._total(xs)
        shift = self.shift.array
        shift = np.asarray(shift if shift.ndim <= 1 else shift.min(), object)
        zero = self.to.zero_point.array.astype(object)
        half = 2 ** (shift - 1) if self.rounding is not Rounding.FLOOR else 0 * shift
        slack = 0 if self.rounding in (Rounding.HALF_UP, Rounding.FLOOR) else 1
        low, high = (
            (total.low + half) // 2**shift + zero - slack,
            (total.high + half) // 2**shift + zero,
        )
        clip = np.frompyfunc(lambda v: min(max(v, self.low), self.high), 1, 1)
        if self.shift.array.ndim > 1:
            return Bounds.of(self.low, self.high)
        return Bounds.of(np.asarray(clip(low), object), np.asarray(clip(high), object))

    def extremes(self, xs: tuple[Any, ...]) -> Iterator[Extreme]:
        _, terms = self._total(xs)
        for x, t in zip(self.xs, terms, strict=True):
            yield Extreme(f"product of {x}", t, 64)
        partial = Bounds.of(
            sum(np.minimum(t.low, 0) for t in terms), sum(np.maximum(t.high, 0) for t in terms)
        )
        half = 2 ** (
            np.asarray(
                self.shift.array if self.shift.array.ndim <= 1 else self.shift.array.max(), object
            )
            - 1
        )
        yield Extreme("sum", Bounds.of(partial.low, partial.high + half), 64)


def clamp_all(to: Quant) -> tuple[int, int]:
    """(low, high) of a requantize that clamps to the storage alone."""
    return to.storage.min, to.storage.max
