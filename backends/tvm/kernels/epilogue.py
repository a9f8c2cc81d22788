"""Accumulators to stored values on vectors: qir.backends.kernels.epilogue in TIR."""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.epilogue import Epilogue
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots import VectorDot
from qir.backends.tvm.kernels.writer import Expr, Writer, call, cast_bits, shuffle, splat

MULTIPLY_ADD_52 = "llvm.x86.avx512.vpmadd52l.uq.512"


@dataclass(frozen=True)
class VectorEpilogue:
    """The epilogue of one kernel: `requantize` gives int32 lanes ready for the packs."""

    writer: Writer
    dot: VectorDot
    code: Epilogue
    constants: Expr

    def requantize(self, acc: Expr, record: Expr, residual: Expr = None) -> Expr:
        """int32 lanes, before storage saturation; `record`: byte offset of the constants."""
        lanes = self.dot.lanes
        if self.code.raw:
            return acc + self._field(record, "bias", "int32", lanes)
        if self.code.before:
            left = self._field(record, "before", "int32", lanes)
            acc = tirx.shift_left(acc, left)
            residual = (
                None if residual is None else self.writer.let(tirx.shift_left(residual, left))
            )
        acc = self.writer.let(acc, "acc")
        even = self.writer.let(self._sum(record, "even", acc, residual), "even")
        odd = self.writer.let(self._sum(record, "odd", acc, residual), "odd")
        return self.writer.let(
            self._wide(record, even, odd) if self.code.wide else self._fast(record, even, odd)
        )

    def start(self, record: Expr) -> Expr:
        """What the accumulators of a vector of channels begin with."""
        if not self.code.fused:
            return splat(0, "int32", self.dot.lanes)
        return self._field(record, "start", "int32", self.dot.lanes)

    def _sum(self, record: Expr, half: str, acc: Expr, residual: Expr) -> Expr:
        mult, add = self._long(record, "mult_" + half), self._long(record, "add_" + half)
        if self.code.fused and half == "odd":
            lanes = self.dot.lanes // 2
            unsigned = cast_bits(acc, f"uint64x{lanes}")
            high = cast_bits(
                tirx.shift_right(unsigned, splat(32, "uint64", lanes)), f"int64x{lanes}"
            )
            total = call(MULTIPLY_ADD_52, f"int64x{lanes}", add, high, mult)
        else:
            total = self._half(acc, half) * _signed_low(mult, self.dot.lanes) + add
        if residual is None:
            return total
        factor = _signed_low(self._long(record, "residual_" + half), self.dot.lanes)
        return total + self._half(residual, half) * factor

    def _half(self, vector: Expr, half: str) -> Expr:
        """Even or odd int32 lanes as int64."""
        longs = cast_bits(vector, f"int64x{self.dot.lanes // 2}")
        if half == "odd":
            return tirx.shift_right(longs, splat(32, "int64", self.dot.lanes // 2))
        return _signed_low(longs, self.dot.lanes)

    def _fast(self, record: Expr, even: Expr, odd: Expr) -> Expr:
        """The high words, shifted by what is left of the shift."""
        lanes = self.dot.lanes
        value = self._merge(even, odd, high=True)
        if self.code.after:
            value = tirx.shift_right(value, self._field(record, "after", "int32", lanes))
        if self.code.zero_point:
            value = value + splat(self.code.zero_point, "int32", lanes)
        return value

    def _wide(self, record: Expr, even: Expr, odd: Expr) -> Expr:
        """Shift and clamp in 64-bit lanes, then the low words."""
        code, count, halves = self.code, self.dot.lanes // 2, []
        for name, value in (("even", even), ("odd", odd)):
            shifted = tirx.shift_right(value, self._long(record, "shift_" + name))
            low = tirx.max(shifted, splat(code.low - code.zero_point, "int64", count))
            high = tirx.min(low, splat(code.high - code.zero_point, "int64", count))
            halves.append(high + splat(code.zero_point, "int64", count))
        return self._merge(halves[0], halves[1], high=False)

    def _merge(self, even: Expr, odd: Expr, high: bool) -> Expr:
        lanes = self.dot.lanes
        words = [cast_bits(v, f"int32x{lanes}") for v in (even, odd)]
        picks = [p for i in range(0, lanes, 2) for p in (i + high, lanes + i + high)]
        return shuffle(words, picks)

    def _long(self, record: Expr, name: str) -> Expr:
        return self._field(record, name, "int64", self.dot.lanes // 2)

    def _field(self, record: Expr, name: str, dtype: str, lanes: int) -> Expr:
        size = self.dot.lanes * 4
        at = record + self.code.fields.index(name) * size
        return cast_bits(self.writer.load(self.constants, at, size), f"{dtype}x{lanes}")

    def pack(self, vectors: list[Expr]) -> Expr:
        """Int32 vectors, two for i16, four for bytes -> one stored vector, in the given order."""
        if self.code.dtype == "int16":
            return self.dot.unblock_words(self.pack_words(vectors))
        return self.dot.unblock(self.pack_chunk(vectors))

    def pack_words(self, vectors: list[Expr]) -> Expr:
        """Two int32 vectors -> i16, their blocks of 128 bits in turn."""
        a, b = (self._clamp(v, "int32", self.dot.lanes) for v in vectors)
        return self.dot.pack_words(a, b)

    def pack_chunk(self, vectors: list[Expr]) -> Expr:
        """Four int32 vectors -> bytes, their blocks of 128 bits in turn."""
        words = [self.dot.pack_words(*vectors[i : i + 2]) for i in (0, 2)]
        a, b = (self._clamp(v, "int16", 2 * self.dot.lanes) for v in words)
        return self.dot.pack_bytes(a, b, self.code.dtype)

    def _clamp(self, value: Expr, dtype: str, lanes: int) -> Expr:
        """Bounds narrower than the packs' own.

        Before the last pack: LLVM 22 may loop for ever where it can move a clamp past a shuffle.
        """
        if not self.code.clamps or self.code.wide:
            return value
        low, high = (splat(v, dtype, lanes) for v in (self.code.low, self.code.high))
        return tirx.min(tirx.max(value, low), high)


def _signed_low(longs: Expr, lanes: int) -> Expr:
    """The low words of int64 lanes, sign-extended: with a multiply LLVM makes it one vpmuldq."""
    by = splat(32, "int64", lanes // 2)
    return tirx.shift_right(tirx.shift_left(longs, by), by)
