"""Scales that are chosen at run time, one for each row or block of a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir import rows
from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.op import Op, Value, op, stored
from qir.ir.types import I8, I32, I64, Array, Quant, Tensor

FRACTION = 8  # bits that scale_rows keeps below a step until its sum is rounded
MULT_BITS = 24  # of the multipliers of scale_rows
LEAST_MULT = 1 << 22  # so that what a shift below 1 would make larger is clamped anyway


@op("round_rows")
class RoundRows(Op):
    """Each block of a row rounded to a scale of its own: y = round(x / s) * s, s = max|x| / 127.

    On floats: it simulates row_scale and quantize_rows, whose scales have 8-bit mantissas.
    Shapes: x (..., C), block divides C -> y (..., C).
    Source: I-LLM, arXiv:2405.17849, section 3.2; scales without division: this project.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    block: int

    def infer(self) -> Tensor:
        check_block(self, self.x, self.block)
        if not self.x.type.is_float:
            self.fail(f"x is {self.x.type}", "floats are needed (to-integer makes quantize_rows)")
        return self.x.type

    def compute(self, torch: Any, x: Any) -> Any:
        parts = x.reshape(*x.shape[:-1], -1, self.block)
        top = parts.abs().amax(-1, keepdim=True)
        mantissa, exponent = torch.frexp(torch.where(top > 0, top, torch.ones_like(top)))
        step = torch.ldexp(torch.ceil(mantissa * 256) / 256, exponent) / rows.CODE_TOP
        # The gradient passes the rounding, as every fake quantization's does.
        y = parts + (torch.floor(parts / step + 0.5) * step - parts).detach()
        return y.reshape(x.shape)


def check_block(op: Op, x: Value, block: int) -> None:
    """Errors: VerifyError for a block that does not divide the rows of x."""
    if not x.type.rank or block < 1 or not x.type.shape[-1] or x.type.shape[-1] % block:
        op.fail(f"x is {x.type}, block {block}", "a divisor of the last axis is needed")


def check_rows(op: Op, x: Value, most_bits: int = 32) -> None:
    """x is stored in at most `most_bits` bits with one scale and zero point 0."""
    elem = x.type.elem
    is_one = isinstance(elem, Quant) and elem.is_per_tensor and elem.zero_point.item() == 0
    if not is_one or x.type.quant.storage.bits > most_bits:
        op.fail(
            f"x is {x.type}", f"at most {most_bits} bits, one scale and zero point 0 are needed"
        )


@op("row_scale")
class RowScale(Op):
    """The least row scale a * 2**e that no |x| of the block exceeds, as e * 256 + a (qir.ir.rows).

    Shapes: x (..., C) of at most 32 bits, zero point 0 -> y (..., C / block), i32.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    block: int

    def infer(self) -> Tensor:
        check_block(self, self.x, self.block)
        check_rows(self, self.x)
        return Tensor((*self.x.type.shape[:-1], self.x.type.shape[-1] // self.block), I32)

    def evaluate(self, x: Array) -> Array:
        parts = np.abs(x.astype(np.int64)).reshape(*self.result.type.shape, self.block)
        return stored(rows.row_scale(parts.max(-1)), self.result.type)

    def bound(self, x: Bounds) -> Bounds:
        low, high = x.ends
        most = int(rows.row_scale(np.array(min(max(-low, high, 1), 2**31))))
        return Bounds.of(-7 * 256 + 128, most | 255)


@op("quantize_rows")
class QuantizeRows(Op):
    """y = round(127 * x / (a * 2**e)), half up, in [-127, 127], by the row scales a * 2**e.

    t = clip(floor(x * 2**(7 - e)), -2**15, 2**15 - 1)
    y = clip((t * R[a - 128] + 2**21) >> 22, -127, 127), R[i] = round(127 * 2**15 / (128 + i))
    Shapes: x (..., C) of at most 32 bits, zero point 0; scale (..., C / block), i32 -> y (..., C).
    Units:  x = y * a * 2**e * s / 127, s the scale of x; the type of y says s / 127.
    Needs:  nothing of the scales: |t * R| < 2**31 for all.
    """

    last_axes: ClassVar[int] = 1
    has_parameters: ClassVar[bool] = False

    x: Value
    scale: Value
    block: int

    def infer(self) -> Tensor:
        check_block(self, self.x, self.block)
        check_rows(self, self.x)
        x = self.x.type
        shape = (*x.shape[:-1], x.shape[-1] // self.block)
        if self.scale.type != Tensor(shape, I32):
            self.fail(f"scale is {self.scale.type}", f"{Tensor(shape, I32)} is needed")
        return Tensor(x.shape, Quant.per_tensor(I8, float(x.quant.scale.array) / rows.CODE_TOP, 0))

    def evaluate(self, x: Array, scale: Array) -> Array:
        each = np.repeat(scale, self.block, axis=-1)
        return stored(rows.codes(x, each, rows.CODE_TOP), self.result.type)

    def bound(self, x: Bounds, scale: Bounds) -> Bounds:
        return Bounds.of(-rows.CODE_TOP, rows.CODE_TOP)

    def extremes(self, x: Bounds, scale: Bounds) -> Iterator[Extreme]:
        reach = (1 << rows.ALIGNED_BITS) * int(rows.RECIPROCALS.max())
        yield Extreme("element times reciprocal", Bounds.of(-reach, reach + (1 << 21)), I32)


@op("scale_rows")
class ScaleRows(Op):
    """Sums of a row's codes times its scale a * 2**e, with a bias and a residual, in one rounding.

    z = rounded(x * a * mult, shift - e - 8) + bias + rounded(r * residual_mult, residual_shift - 8)
    y = clip((z + 2**7) >> 8, low, high); rounded(p, n) = (p + 2**(n-1)) >> n, n clipped to [1, 62]
    Shapes: x (..., O) i32 with scales for O; scale (..., 1) i32; residual (..., O) of at most 32
            bits; mult, shift, bias (O,) or () -> y (..., O).
    Units:  mult / 2**shift = scale of x / scale of y; bias in steps of y / 2**8, int64.
    Needs:  mult 0 or in [2**22, 2**24): what a shift under 1 would enlarge is clamped anyway.
    """

    last_axes: ClassVar[int] = 1
    has_parameters: ClassVar[bool] = False

    x: Value
    scale: Value
    residual: Value | None
    to: Quant
    mult: Data
    shift: Data
    bias: Data | None
    residual_mult: int
    residual_shift: int

    def infer(self) -> Tensor:
        x = self.x.type
        if not isinstance(x.elem, Quant) or not x.rank or x.elem.storage != I32:
            self.fail(f"x is {x}", "i32 sums of rank 1 or more are needed")
        if x.elem.axis not in (None, x.rank - 1):
            self.fail(f"x is quantized along axis {x.elem.axis}", "the last is needed")
        if self.scale.type != Tensor((*x.shape[:-1], 1), I32):
            self.fail(f"scale is {self.scale.type}", f"{Tensor((*x.shape[:-1], 1), I32)} is needed")
        if not (self.to.is_per_tensor and self.to.zero_point.item() == 0):
            self.fail(f"y is {self.to}", "one scale and zero point 0 are needed")
        if self.residual is not None:
            check_rows(self, self.residual)
            if self.residual.type.shape != x.shape:
                self.fail(f"residual is {self.residual.type}", f"{list(x.shape)} is needed")
        for data in (self.mult, self.shift, *((self.bias,) if self.bias is not None else ())):
            if data.shape not in ((), x.shape[-1:]) or data.array.dtype != np.int64:
                self.fail(
                    f"numbers {data.array.dtype}{list(data.shape)}",
                    f"int64, [] or [{x.shape[-1]}], are needed",
                )
        return Tensor(x.shape, self.to)

    def faults(self) -> Iterator[str]:
        mult, shift = self.mult.array, self.shift.array
        if np.any((mult != 0) & ((mult < LEAST_MULT) | (mult >= 1 << MULT_BITS))):
            yield f"{self}: multipliers reach [{mult.min()}, {mult.max()}], 0 or 2**22 to 2**24 - 1"
        if np.any((shift < -64) | (shift > 128)):
            yield f"{self}: shifts reach [{shift.min()}, {shift.max()}], -64 to 128 are needed"
        if not (0 <= self.residual_mult < 1 << 31 and 9 <= self.residual_shift <= 62):
            yield (
                f"{self}: residual ratio {self.residual_mult} / 2**{self.residual_shift}, 0 to"
                " 2**31 - 1 and a shift of 9 to 62 are needed"
            )
        ratio = np.ldexp(mult.astype(np.float64), -shift) if not list(self._wide(shift)) else None
        expected = self.x.type.quant.scale.array / self.to.scale.item()
        if ratio is not None and np.any(np.abs(ratio - expected) > expected * 2.0**-21 + 2.0**-100):
            yield f"{self}: ratio is {np.max(ratio):g}, the scales need {np.max(expected):g}"

    @staticmethod
    def _wide(shift: Array) -> Iterator[int]:
        yield from (int(s) for s in np.ravel(shift) if not -64 <= s <= 128)

    def evaluate(self, x: Array, scale: Array, residual: Array | None) -> Array:
        product = x.astype(np.int64) * rows.mantissa(scale) * self.mult.array
        z = rows.rounded(product, self.shift.array - rows.exponent(scale) - FRACTION)
        if self.bias is not None:
            z = z + self.bias.array
        if residual is not None:
            wide = residual.astype(np.int64) * self.residual_mult
            z = z + rows.rounded(wide, np.asarray(self.residual_shift - FRACTION))
        y = (z + (1 << FRACTION - 1)) >> FRACTION
        storage = self.to.storage
        return stored(np.clip(y, storage.min, storage.max), self.result.type)

    def extremes(self, x: Bounds, scale: Bounds, residual: Bounds | None) -> Iterator[Extreme]:
        product = x.scaled(255).scaled(self.mult.array).with_zero()
        yield Extreme("sum times scale", product.plus(Bounds.of(0, 1 << 61)), I64)
        total = Bounds.of(*(end // 2 for end in product.ends)).plus(Bounds.of(-1, 1))
        if self.bias is not None:
            total = total.plus(Bounds.of_array(self.bias.array)).forgotten
        if residual is not None:
            wide = residual.scaled(self.residual_mult).with_zero()
            half = 1 << self.residual_shift - FRACTION - 1
            yield Extreme("product of the residual", wide.plus(Bounds.of(0, half)), I64)
            total = total.plus(wide.forgotten)
        yield Extreme("sum", total.plus(Bounds.of(0, 1 << FRACTION - 1)), I64)
