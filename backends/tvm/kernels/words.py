"""Reads X for the dots of a dense contraction: whole words where they are aligned, else bytes."""

from __future__ import annotations

from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, Writer, cast_bits, splat

FLIP = 0x80  # of each byte: turns i8 into u8, 128 larger, and u8 into i8


class Words:
    """X of a contraction; `size`: the bytes that one offset in it counts."""

    def __init__(self, code: DenseCode, writer: Writer, x: Expr) -> None:
        self.code, self.writer, self.x = code, writer, x
        self.size = 1 if not code.aligned else 4 if code.machine.together == 1 else 8
        self.flips = code.machine.x not in (None, code.x.dtype)
        self.views = {b: writer.view(x, f"int{b}") for b in (32, 64) if b <= 8 * self.size}

    def chunks(self, x: Expr, ahead: int, count: int) -> list[Expr]:
        """`count` dots' bytes, from `ahead` bytes after offset x on, as the dot reads them."""
        size, w = count * self.code.machine.depth, self.writer
        if self.code.aligned:
            return self._aligned(x, ahead, size)
        value = w.load(self.x, x + ahead, size)
        if size in (4, 8):
            value = cast_bits(value, f"int{8 * size}")
        return [w.let(self._as_read(value, size))]

    def _aligned(self, x: Expr, ahead: int, size: int) -> list[Expr]:
        """Words as long as `size` and the machine allow."""
        w, per = self.writer, min(self.size, size)
        first = x * (self.size // per) + ahead // per
        words = [w.load(self.views[8 * per], first + i) for i in range(size // per)]
        return [w.let(self._as_read(word, per)) for word in words]

    def _as_read(self, value: Expr, size: int) -> Expr:
        """A word, or a vector of bytes, with every top bit flipped if the dot reads X so."""
        if not self.flips:
            return value
        if size in (4, 8):
            bits = int.from_bytes(bytes([FLIP] * size), "little") - (1 << 8 * size)
            return tirx.bitwise_xor(value, tirx.const(bits, f"int{8 * size}"))
        return tirx.bitwise_xor(cast_bits(value, f"uint8x{size}"), splat(FLIP, "uint8", size))
