"""Rows packed in bytes, as caches hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence import blocks
from qir.ir.ops.sequence.embedding import check_index
from qir.ir.ops.sequence.rows import check_rows
from qir.ir.types import I16, I32, U8, Array, Bfp, Int, Packing, Quant, Tensor

WIDEST_SPAN = 8  # bits of what spans are packed from: its steps have a table


def check_packing(op: Op, packing: Packing, width: int, storage: Int) -> None:
    """A row of so many integers of this storage can be packed."""
    bits = blocks.bits_of(packing)
    if bits not in blocks.PLANES or (not isinstance(packing, Bfp) and bits == 8):
        op.fail(f"codes of {bits} bits", "4, 6 or, of bfp, 8 are needed")
    if isinstance(packing, Bfp) and packing.exponent_bits != 8:
        op.fail(f"exponents of {packing.exponent_bits} bits", "8 are needed")
    unit = 8 // min(blocks.PLANES[bits])
    if packing.block < 1 or width % packing.block or packing.block % unit or not width:
        op.fail(
            f"{width} channels in blocks of {packing.block}", f"blocks of {unit} * n are needed"
        )
    most = 16 if isinstance(packing, Bfp) else WIDEST_SPAN
    if not (storage.is_signed and bits <= storage.bits <= most):
        op.fail(f"integers are {storage}", f"signed ones of {bits} to {most} bits are needed")


@op("round_blocks")
class RoundBlocks(Op):
    """Each block of a row rounded to what a packing of its width can hold, on floats: it simulates
    pack_rows and unpack_rows of integers whose own steps are much finer.

    Bfp:  u = 2**(floor(log2(max|x|)) - bits + 2); y = clip(round(x / u)) * u
    Span: s = (max(x) - min(x)) / (2**bits - 1); y = min(x) + round((x - min(x)) / s) * s
    Shapes: x (..., C), the block divides C -> y (..., C).
    """

    last_axes: ClassVar[int] = 1

    x: Value
    packing: Packing

    def infer(self) -> Tensor:
        x, packing = self.x.type, self.packing
        if not x.is_float:
            self.fail(f"x is {x}", "floats are needed (pack-caches makes pack_rows)")
        if packing.axis != x.rank - 1 or packing.block < 1 or x.shape[-1] % packing.block:
            self.fail(f"x is {x}, blocks {packing}", "a divisor of the last axis is needed")
        return x

    def compute(self, torch: Any, x: Any) -> Any:
        parts = x.reshape(*x.shape[:-1], -1, self.packing.block)
        bits = blocks.bits_of(self.packing)
        if isinstance(self.packing, Bfp):
            top = parts.abs().amax(-1, keepdim=True)
            exponent = torch.frexp(torch.where(top > 0, top, torch.ones_like(top)))[1] - 1
            unit = torch.ldexp(torch.ones_like(top), exponent - bits + 2)
            most = 1 << (bits - 1)
            y = torch.clamp(torch.floor(parts / unit + 0.5), -most, most - 1) * unit
        else:
            low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
            step = ((high - low) / ((1 << bits) - 1)).clamp_min(torch.finfo(x.dtype).tiny)
            y = low + torch.floor((parts - low) / step + 0.5) * step
        # The gradient passes the rounding, as every fake quantization's does.
        return (parts + (y - parts).detach()).reshape(x.shape)


@op("pack_rows")
class PackRows(Op):
    """Rows in bytes, by blocks that share an exponent, or a step and a least value (blocks.py).

    Bfp:  t = clip(L - bits + 1, 0, storage's bits - bits), L the bits of max|x| of the block;
          code = clip((x + 2**t / 2) >> t, -2**(bits-1), 2**(bits-1) - 1), exponent t
    Span: r = max(x) - min(x); step = max(1, ceil(8 * r / (2**bits - 1))) / 8, least = min(x);
          code = min(((x - least) * round(2**16 / step) + 2**15) >> 16, 2**bits - 1)
    Shapes: x (..., C), zero point 0, of at most 16 bits, of a span 8 -> y (..., bytes) u8.
    Source: Trukhanov & Soloveychik, arXiv:2403.20137; KIVI, arXiv:2402.02750; their integer
            form: this project.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    packing: Packing

    def infer(self) -> Tensor:
        check_rows(self, self.x, 16)
        x = self.x.type
        if self.packing.axis != x.rank - 1:
            self.fail(f"blocks along axis {self.packing.axis} of {x}", "the last is needed")
        check_packing(self, self.packing, x.shape[-1], x.quant.storage)
        return Tensor((*x.shape[:-1], blocks.packed_bytes(self.packing, x.shape[-1])), U8)

    def evaluate(self, x: Array) -> Array:
        return blocks.pack(x, self.packing, self.x.type.quant.storage)

    def bound(self, x: Bounds) -> Bounds:
        return Bounds.of(U8.min, U8.max)

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        if isinstance(self.packing, Bfp):
            yield Extreme("element and half a step", x.plus(Bounds.of(0, 1 << 15)), I32)
        else:
            top = 255 * int(blocks.inverses(self.packing.bits)[1]) + (1 << 15)
            yield Extreme("element times inverse of a step", Bounds.of(0, top), I32)


@op("unpack_rows")
class UnpackRows(Op):
    """The integers of packed rows (blocks.py); with a `start`, clipped to the rows, those of axis 1
    from start + `count` on are 0.

    Bfp:  y = (code - 2**(bits-1)) * 2**t, t at most the storage's bits less `bits`
    Span: y = clip(least + ((8 * step * code + 4) >> 3))
    Shapes: x (..., bytes) u8, start () of integers -> y (..., width).
    Needs:  nothing of the bytes: every exponent, step and least value gives integers of `to`.
    """

    last_axes: ClassVar[int] = 1
    has_parameters: ClassVar[bool] = False

    x: Value
    start: Value | None
    packing: Packing
    width: int
    count: int
    to: Quant

    def infer(self) -> Tensor:
        x = self.x.type
        if not (self.to.is_per_tensor and self.to.zero_point.item() == 0):
            self.fail(f"y is {self.to}", "one scale and zero point 0 are needed")
        check_packing(self, self.packing, self.width, self.to.storage)
        row_bytes = blocks.packed_bytes(self.packing, self.width)
        if (
            x.elem != U8
            or not x.rank
            or x.shape[-1] != row_bytes
            or self.packing.axis != x.rank - 1
        ):
            self.fail(
                f"x is {x}, packed {self.packing}", f"u8 rows of {row_bytes} bytes are needed"
            )
        if self.start is not None:
            check_index(self, self.start)
            if self.start.type.rank or x.rank != 3 or self.count < 0:
                self.fail(f"start {self.start.type}, count {self.count}", "one start is needed")
        return Tensor((*x.shape[:-1], self.width), self.to)

    def evaluate(self, x: Array, start: Array | None) -> Array:
        y = blocks.unpack(x, self.packing, self.width, self.to.storage)
        if start is not None:
            y[:, min(max(int(start), 0), y.shape[1]) + self.count :] = 0
        return stored(y, self.result.type)

    def extremes(self, x: Bounds, start: Bounds | None) -> Iterator[Extreme]:
        bits = blocks.bits_of(self.packing)
        if isinstance(self.packing, Bfp):
            half = 1 << self.to.storage.bits - 1
            yield Extreme("code times power of two", Bounds.of(-half, half - 1), I16)
        else:
            most = 255 * ((1 << bits) - 1) + (1 << blocks.STEP_FRACTION - 1)
            yield Extreme("code times step", Bounds.of(0, most), I16)
