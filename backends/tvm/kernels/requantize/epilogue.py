"""Accumulators to stored values on vectors: qir.backends.kernels.requantize.epilogue in TIR."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from qir.backends.kernels.dots import Scheme
from qir.backends.kernels.requantize.epilogue import Epilogue
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots import HalvesDot, PackingDot, VectorDot
from qir.backends.tvm.kernels.longs import Pairs, signed_low
from qir.backends.tvm.kernels.writer import (
    Expr,
    Writer,
    call,
    cast,
    cast_bits,
    clamp,
    kind,
    shuffle,
    splat,
)

MULTIPLY_ADD_52 = "llvm.x86.avx512.vpmadd52l.uq.512"
TOGETHER = {"uint8": 4, "int8": 4, "int16": 2, "int32": 1}


@dataclass(frozen=True)
class VectorEpilogue(ABC):
    """The epilogue of one kernel: `requantize` gives int32 lanes ready for the packs."""

    writer: Writer
    dot: VectorDot
    code: Epilogue
    constants: Expr

    @property
    def together(self) -> int:
        """Vectors that `pack` makes one of."""
        return TOGETHER[self.code.dtype] if isinstance(self.dot, PackingDot) else 1

    def start(self, record: Expr) -> Expr:
        """The initial accumulators of a vector of channels."""
        if not self.code.starts:
            return splat(0, "int32", self.dot.lanes)
        return self.word(record, "start")

    @abstractmethod
    def requantize(self, acc: Expr, record: Expr, residual: Expr = None) -> Expr:
        """int32 lanes, before storage saturation; `record`: byte offset of the constants."""

    def field(self, record: Expr, name: str, dtype: str, lanes: int) -> Expr:
        size = self.code.lane_bytes(name) * self.dot.lanes
        at = record + self.code.offset(name, self.dot.lanes)
        return cast_bits(self.writer.load(self.constants, at, size), kind(dtype, lanes))

    def word(self, record: Expr, name: str) -> Expr:
        """A field as int32 lanes."""
        if self.code.lane_bytes(name) == 1:
            return cast(self.field(record, name, "int8", self.dot.lanes), "int32", self.dot.lanes)
        return self.field(record, name, "int32", self.dot.lanes)

    def _biased(self, acc: Expr, record: Expr) -> Expr:
        return acc + self.word(record, "bias") if self.code.biased else acc

    def _raised(self, acc: Expr, record: Expr, residual: Expr) -> tuple[Expr, Expr]:
        """Accumulator and residual, shifted left where their shift is short."""
        let = self.writer.let
        if self.code.before:
            by = self.word(record, "before")
            acc = tirx.shift_left(acc, by)
            residual = None if residual is None else let(tirx.shift_left(residual, by))
        return let(acc, "acc"), residual

    def _lowered(self, value: Expr, record: Expr) -> Expr:
        """The rest of the shift, and the zero point."""
        if self.code.after:
            value = tirx.shift_right(value, self.word(record, "after"))
        if self.code.zero_point:
            value = value + splat(self.code.zero_point, "int32", self.dot.lanes)
        return value

    def pack(self, vectors: list[Expr]) -> Expr:
        """`together` int32 vectors -> one stored vector, in the given order."""
        dot = self.dot
        if self.code.dtype == "int32":
            return vectors[0]
        if not isinstance(dot, PackingDot):
            return cast(
                self._clamp(vectors[0], "int32", dot.lanes, True), self.code.dtype, dot.lanes
            )
        if self.code.dtype == "int16":
            return dot.unblock_words(self.pack_words(vectors))
        return dot.unblock(self.pack_chunk(vectors))

    def pack_words(self, vectors: list[Expr]) -> Expr:
        """Two int32 vectors -> i16, their blocks in turn."""
        assert isinstance(self.dot, PackingDot)
        a, b = (self._clamp(v, "int32", self.dot.lanes) for v in vectors)
        return self.dot.pack_words(a, b)

    def pack_chunk(self, vectors: list[Expr]) -> Expr:
        """Four int32 vectors -> bytes, their blocks in turn."""
        assert isinstance(self.dot, PackingDot)
        words = [self.dot.pack_words(*vectors[i : i + 2]) for i in (0, 2)]
        a, b = (self._clamp(v, "int16", 2 * self.dot.lanes) for v in words)
        return self.dot.pack_bytes(a, b, self.code.dtype)

    def _clamp(self, value: Expr, dtype: str, lanes: int, always: bool = False) -> Expr:
        """Bounds narrower than the packs' own, or all bounds where nothing saturates.

        Before the last pack: LLVM 22 may loop for ever where it can move a clamp past a shuffle.
        """
        if self.code.wide or not (self.code.clamps or always):
            return value
        return clamp(value, self.code.low, self.code.high, dtype, lanes)


class PairsEpilogue(VectorEpilogue):
    """Even lanes, then odd lanes, in 64 bits."""

    def requantize(self, acc: Expr, record: Expr, residual: Expr = None) -> Expr:
        if self.code.raw:
            return self._biased(acc, record)
        acc, residual = self._raised(acc, record, residual)
        even = self.writer.let(self._sum(record, "even", acc, residual), "even")
        odd = self.writer.let(self._sum(record, "odd", acc, residual), "odd")
        if self.code.wide:
            return self.writer.let(self._wide(record, even, odd))
        return self.writer.let(self._lowered(self._merge(even, odd, high=True), record))

    def _sum(self, record: Expr, half: str, acc: Expr, residual: Expr) -> Expr:
        mult, add = self._long(record, "mult", half), self._long(record, "add", half)
        if self.code.fused and half == "odd":
            lanes = self.dot.lanes // 2
            unsigned = cast_bits(acc, f"uint64x{lanes}")
            high = cast_bits(
                tirx.shift_right(unsigned, splat(32, "uint64", lanes)), f"int64x{lanes}"
            )
            total = call(MULTIPLY_ADD_52, f"int64x{lanes}", add, high, mult)
        else:
            total = self._half(acc, half) * signed_low(mult, self.dot.lanes // 2) + add
        if residual is None:
            return total
        factor = signed_low(self._long(record, "residual", half), self.dot.lanes // 2)
        return total + self._half(residual, half) * factor

    def _half(self, vector: Expr, half: str) -> Expr:
        """Even or odd int32 lanes as int64."""
        longs = cast_bits(vector, f"int64x{self.dot.lanes // 2}")
        if half == "odd":
            return tirx.shift_right(longs, splat(32, "int64", self.dot.lanes // 2))
        return signed_low(longs, self.dot.lanes // 2)

    def _wide(self, record: Expr, even: Expr, odd: Expr) -> Expr:
        """Shift and clamp in 64-bit lanes, then the low words."""
        code, count, halves = self.code, self.dot.lanes // 2, []
        for name, value in (("even", even), ("odd", odd)):
            shifted = tirx.shift_right(value, self._long(record, "shift", name))
            low = tirx.max(shifted, splat(code.low - code.zero_point, "int64", count))
            high = tirx.min(low, splat(code.high - code.zero_point, "int64", count))
            halves.append(high + splat(code.zero_point, "int64", count))
        return self._merge(halves[0], halves[1], high=False)

    def _merge(self, even: Expr, odd: Expr, high: bool) -> Expr:
        lanes = self.dot.lanes
        words = [cast_bits(v, f"int32x{lanes}") for v in (even, odd)]
        picks = [p for i in range(0, lanes, 2) for p in (i + high, lanes + i + high)]
        return shuffle(words, picks)

    def _long(self, record: Expr, name: str, half: str) -> Expr:
        """The even or the odd lanes of a field that is not negative, in 64 bits; of `add` too."""
        if f"{name}_{half}" in self.code.fields:
            return self.field(record, f"{name}_{half}", "int64", self.dot.lanes // 2)
        halves = Pairs(self.writer, self.dot.lanes).unsigned(self.word(record, name))
        return halves[half == "odd"]


class LanesEpilogue(VectorEpilogue):
    """Every lane widened to 64 bits; LLVM finds the widening multiplies."""

    def requantize(self, acc: Expr, record: Expr, residual: Expr = None) -> Expr:
        code, lanes = self.code, self.dot.lanes
        if code.raw:
            return self.writer.let(self._biased(acc, record))
        acc, residual = self._raised(acc, record, residual)
        total = self._product(acc, record, "mult") + self.field(record, "add", "int64", lanes)
        if residual is not None:
            total = total + self._product(residual, record, "residual")
        if code.wide:
            by = self.field(record, "shift", "int8" if code.narrow else "int64", lanes)
            shifted = tirx.shift_right(total, cast(by, "int64", lanes))
            low, high = code.low - code.zero_point, code.high - code.zero_point
            stored = cast(
                clamp(self.writer.let(shifted), low, high, "int64", lanes), "int32", lanes
            )
            return self.writer.let(stored + splat(code.zero_point, "int32", lanes))
        top = cast(tirx.shift_right(total, splat(32, "int64", lanes)), "int32", lanes)
        return self.writer.let(self._lowered(top, record))

    def _product(self, value: Expr, record: Expr, factor: str) -> Expr:
        lanes = self.dot.lanes
        return cast(value, "int64", lanes) * cast(self.word(record, factor), "int64", lanes)


class HalvesEpilogue(VectorEpilogue):
    """By the halves of the multiplier, in 32-bit lanes: Hexagon's vmpye and vmpyo."""

    @property
    def halves(self) -> HalvesDot:
        assert isinstance(self.dot, HalvesDot)
        return self.dot

    def requantize(self, acc: Expr, record: Expr, residual: Expr = None) -> Expr:
        let, dot = self.writer.let, self.halves
        if self.code.raw:
            return acc
        if residual is not None:
            residual = let(residual - self.word(record, "center"))
        acc, residual = self._raised(acc, record, residual)
        mult = let(self.word(record, "mult"))
        total = dot.high_product(acc, mult) + self.word(record, "half")
        if residual is not None:
            total = total + self._residual_part(acc, mult, residual, record)
        value = dot.added_high(let(total), acc, mult)
        if self.code.late:
            value = value + self.word(record, "late")
        return let(self._lowered(value, record))

    def _residual_part(self, acc: Expr, mult: Expr, residual: Expr, record: Expr) -> Expr:
        """The residual's part of the sum: its product >> 16, and the carry of the low bits."""
        factor, dot = self.writer.let(self.word(record, "residual")), self.halves
        mask = splat(0xFFFF, "int32", dot.lanes)
        low = [
            tirx.bitwise_and(dot.low_product(v, m), mask)
            for v, m in ((acc, mult), (residual, factor))
        ]
        by = splat(16, "int32", dot.lanes)
        carry = tirx.shift_right(low[0] + low[1], by)
        upper = residual * tirx.shift_right(factor, by)
        return upper + dot.high_product(residual, factor) + carry


SCHEMES: dict[Scheme, type[VectorEpilogue]] = {
    Scheme.PAIRS: PairsEpilogue,
    Scheme.LANES: LanesEpilogue,
    Scheme.HALVES: HalvesEpilogue,
}


def epilogue_of(writer: Writer, dot: VectorDot, code: Epilogue, constants: Expr) -> VectorEpilogue:
    """The epilogue in the dot's own scheme."""
    return SCHEMES[code.scheme](writer, dot, code, constants)
