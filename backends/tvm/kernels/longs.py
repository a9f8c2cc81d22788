"""High words of products of 32 bits: every second lane at once, or each lane widened.

Vectors of int32 lanes become tuples of int64 vectors that together have their lanes; sums of these
come back by their high words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, Writer, cast, cast_bits, kind, shuffle, splat

Longs = tuple[Expr, ...]

LEAST_PAIRS = 4  # lanes that are taken in pairs


def signed_low(longs: Expr, count: int) -> Expr:
    """The low words of int64 lanes, sign-extended: with a multiply LLVM makes it one vpmuldq."""
    by = splat(32, "int64", count)
    return tirx.shift_right(tirx.shift_left(longs, by), by)


class Widening(ABC):
    """`lanes` of int32 as int64: `parts` vectors of `count` lanes."""

    parts: int

    def __init__(self, w: Writer, lanes: int) -> None:
        self.w, self.lanes = w, lanes

    @property
    def count(self) -> int:
        return self.lanes // self.parts

    @abstractmethod
    def signed(self, words: Expr) -> Longs:
        """The lanes with their signs."""

    @abstractmethod
    def unsigned(self, words: Expr) -> Longs:
        """The bits of the lanes as numbers without a sign."""

    @abstractmethod
    def high(self, longs: Longs) -> Expr:
        """The high words, as int32 lanes."""

    def broadcast(self, value: Expr) -> Longs:
        """An int64 scalar in every lane."""
        return (spread(value, self.count),) * self.parts

    @abstractmethod
    def uniform(self, words: Expr) -> Longs:
        """Signed lanes that all are the same. LLVM takes it into the loop of a product."""

    def product(self, a: Longs, b: Longs, more: Longs | None = None) -> Longs:
        """a * b + more, in 64 bits."""
        products = [x * y for x, y in zip(a, b, strict=True)]
        if more is not None:
            products = [x + y for x, y in zip(products, more, strict=True)]
        return tuple(self.w.let(x) for x in products)

    def high_product(self, a: Longs, b: Longs, more: Longs) -> Expr:
        """floor((a * b + more) / 2**32), int32 lanes."""
        return self.w.let(self.high(self.product(a, b, more)))


class Pairs(Widening):
    """Even lanes, then odd lanes: x86 multiplies the low words of 64-bit lanes."""

    parts = 2

    def signed(self, words: Expr) -> Longs:
        longs = self.w.let(cast_bits(words, f"int64x{self.count}"))
        return signed_low(longs, self.count), self._second(longs)

    def uniform(self, words: Expr) -> Longs:
        longs = self.w.let(cast_bits(words, f"int64x{self.count}"))
        return (signed_low(longs, self.count),) * 2

    def _second(self, longs: Expr) -> Expr:
        return tirx.shift_right(longs, splat(32, "int64", self.count))

    def unsigned(self, words: Expr) -> Longs:
        longs = self.w.let(cast_bits(words, f"int64x{self.count}"))
        mask = splat((1 << 32) - 1, "int64", self.count)
        return tirx.bitwise_and(longs, mask), self._top(longs)

    def _top(self, longs: Expr) -> Expr:
        """The high words, zero-extended."""
        unsigned = cast_bits(longs, f"uint64x{self.count}")
        high = tirx.shift_right(unsigned, splat(32, "uint64", self.count))
        return cast_bits(high, f"int64x{self.count}")

    def high(self, longs: Longs) -> Expr:
        words = [cast_bits(v, f"int32x{self.lanes}") for v in longs]
        picks = [p for i in range(1, self.lanes, 2) for p in (i, self.lanes + i)]
        return shuffle(words, picks)


class Whole(Widening):
    """Each lane widened; LLVM finds the widening multiplies."""

    parts = 1

    def signed(self, words: Expr) -> Longs:
        return (cast(words, "int64", self.lanes),)

    def unsigned(self, words: Expr) -> Longs:
        bits = cast_bits(words, kind("uint32", self.lanes))
        return (cast(bits, "int64", self.lanes),)

    def uniform(self, words: Expr) -> Longs:
        return self.signed(words)

    def high(self, longs: Longs) -> Expr:
        return cast(tirx.shift_right(longs[0], splat(32, "int64", self.lanes)), "int32", self.lanes)


def widening(w: Writer, lanes: int, in_pairs: bool) -> Widening:
    """The cheaper one on a machine that multiplies in pairs, or does not."""
    return Pairs(w, lanes) if in_pairs and lanes >= LEAST_PAIRS else Whole(w, lanes)
