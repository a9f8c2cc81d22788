"""Rows with scales at run time, in blocks whose steps are powers of two below the row's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir import rows
from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence.rows import check_block, check_rows
from qir.ir.types import I8, I16, I32, Array, Quant, Tensor

MOST_SPREAD = 7  # codes of 8 bits, shifted by so much, fit 16


def check_form(op: Op, bits: int, spread: int) -> None:
    """Errors: VerifyError for codes that are none, or that 16 bits do not hold."""
    if not (2 <= bits <= 8 and 0 <= spread <= MOST_SPREAD):
        op.fail(
            f"{bits} bits, spread {spread}",
            f"2 to 8 bits and a spread up to {MOST_SPREAD} are needed",
        )


@op("round_row_blocks")
class RoundRowBlocks(Op):
    """Each block of a row rounded to a step of its own: y = round(x / s) * s.

        s = a / top / 2**t, top = 2**(bits-1) - 1, t = clip(floor(log2(a / b)), 0, spread)

    a, b: the greatest |x| of the row and of the block, rounded up to mantissas of 8 bits. On
    floats: it simulates row_scale and quantize_row_blocks.
    Shapes: x (..., C), block divides C -> y (..., C).
    Source: block floating point under a scale for each row: this project.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    block: int
    bits: int
    spread: int

    def infer(self) -> Tensor:
        check_block(self, self.x, self.block)
        check_form(self, self.bits, self.spread)
        if not self.x.type.is_float:
            self.fail(f"x is {self.x.type}", "floats are needed (to-integer makes integers)")
        return self.x.type

    def compute(self, torch: Any, x: Any) -> Any:
        parts = x.reshape(*x.shape[:-1], -1, self.block)
        most = parts.abs().amax(-1, keepdim=True)
        row_most = most.amax(-2, keepdim=True)
        row_most = torch.where(row_most > 0, row_most, torch.ones_like(row_most))
        a, e = _rounded_up(torch, row_most)
        b, f = _rounded_up(torch, torch.where(most > 0, most, row_most))
        t = (e - f - (b > a).to(e.dtype)).clamp(0, self.spread)
        step = torch.ldexp(a.expand_as(t), e - t) / rows.code_top(self.bits)
        top = rows.code_top(self.bits)
        y = torch.clamp(torch.floor(parts / step + 0.5), -top, top) * step
        # The gradient passes the rounding, as every fake quantization's does.
        return (parts + (y - parts).detach()).reshape(x.shape)


def _rounded_up(torch: Any, x: Any) -> tuple[Any, Any]:
    """Mantissas of 8 bits in [1/2, 1) and exponents, of the least such numbers from x on."""
    mantissa, exponent = torch.frexp(x)
    a, e = torch.frexp(torch.ldexp(torch.ceil(mantissa * 256) / 256, exponent))
    return a, e


@op("quantize_row_blocks")
class QuantizeRowBlocks(Op):
    """The codes of a row, of `bits` bits with a step for each block, in steps of the smallest.

        t = clip(e - f - (b > a), 0, spread), of the row's scale a * 2**e and b * 2**f of the block
        y = clip((u * R[a - 128] + 2**21) >> 22, -top, top) * 2**(spread - t), top = 2**(bits-1) - 1
        u = clip(floor(x * 2**(7 - e + t)), -2**15, 2**15 - 1)
        R[i] = round(top * 2**15 / (128 + i))

    b * 2**f is what row_scale gives for the block. A sum of y times integers is exact: over blocks,
    of sums of codes shifted by exponents.
    Shapes: x (..., C) of at most 32 bits, zero point 0; scale (..., 1), i32 -> y (..., C), i8 where
            top * 2**spread fits, else i16.
    Units:  x = y * a * 2**e * s / (top * 2**spread), s the scale of x.
    Needs:  nothing of the scales: |u * R| < 2**31 for all.
    """

    last_axes: ClassVar[int] = 1
    has_parameters: ClassVar[bool] = False

    x: Value
    scale: Value
    block: int
    bits: int
    spread: int

    @property
    def most(self) -> int:
        """The greatest |y|."""
        return rows.code_top(self.bits) << self.spread

    def infer(self) -> Tensor:
        check_block(self, self.x, self.block)
        check_rows(self, self.x)
        check_form(self, self.bits, self.spread)
        x = self.x.type
        if self.scale.type != (need := Tensor((*x.shape[:-1], 1), I32)):
            self.fail(f"scale is {self.scale.type}", f"{need} is needed")
        storage = I8 if self.most <= I8.max else I16
        return Tensor(x.shape, Quant.per_tensor(storage, float(x.quant.scale.array) / self.most, 0))

    def evaluate(self, x: Array, scale: Array) -> Array:
        parts = x.astype(np.int64).reshape(*x.shape[:-1], -1, self.block)
        block_scales, row = rows.row_scale(np.abs(parts).max(-1)), scale.astype(np.int64)
        less = rows.mantissa(block_scales) > rows.mantissa(row)
        t = np.clip(rows.exponent(row) - rows.exponent(block_scales) - less, 0, self.spread)
        each, by = np.repeat(row - 256 * t, self.block, -1), np.repeat(t, self.block, -1)
        y = rows.codes(x, each, rows.code_top(self.bits)) << (self.spread - by)
        return stored(y, self.result.type)

    def bound(self, x: Bounds, scale: Bounds) -> Bounds:
        return Bounds.of(-self.most, self.most)

    def extremes(self, x: Bounds, scale: Bounds) -> Iterator[Extreme]:
        reach = (1 << rows.ALIGNED_BITS) * int(rows.reciprocals(rows.code_top(self.bits)).max())
        yield Extreme("element times reciprocal", Bounds.of(-reach, reach + (1 << 21)), I32)
