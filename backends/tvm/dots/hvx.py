"""Hexagon's vectors of 128 bytes: vrmpy, u8 x i8, four products into each of 32 lanes."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots.vector import HalvesDot
from qir.backends.tvm.kernels.writer import Expr, call, cast_bits

WORDS, SHORTS, BYTES = "int32x32", "int16x64", "int8x128"


class _Packs(HalvesDot):
    """The saturating packs; they keep the order of lanes."""

    def pack_words(self, a: Expr, b: Expr) -> Expr:
        packed = call("llvm.hexagon.V6.vpackwh.sat.128B", WORDS, b, a)
        return cast_bits(packed, SHORTS)

    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        name = "vpackhub" if dtype == "uint8" else "vpackhb"
        parts = [cast_bits(v, WORDS) for v in (b, a)]
        packed = call(f"llvm.hexagon.V6.{name}.sat.128B", WORDS, *parts)
        return cast_bits(packed, f"{dtype}x128")


class _Hvx(_Packs):
    def scaled(self, acc: Expr, total: Expr, mult: Expr) -> Expr:
        return acc + self.low_product(total, mult)

    def high_product(self, a: Expr, b: Expr) -> Expr:
        return call("llvm.hexagon.V6.vmpyewuh.128B", WORDS, a, b)

    def low_product(self, a: Expr, b: Expr) -> Expr:
        return call("llvm.hexagon.V6.vmpyiewuh.128B", WORDS, a, b)

    def added_high(self, acc: Expr, a: Expr, b: Expr) -> Expr:
        return call("llvm.hexagon.V6.vmpyowh.sacc.128B", WORDS, acc, a, b)


class Vrmpy(_Hvx):
    """A vector of words of X, all the same, with a vector of weights."""

    name = "vrmpy"

    def spread(self, word: Expr) -> list[Expr]:
        return [call("llvm.hexagon.V6.lvsplatw.128B", WORDS, word)]

    def widen(self, words: Expr) -> list[Expr]:
        return [cast_bits(words, WORDS)]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        words = cast_bits(weights[0], WORDS)
        return call("llvm.hexagon.V6.vrmpybusv.acc.128B", WORDS, acc, spread[0], words)


class VrmpyWord(_Hvx):
    """A word of X in a scalar register with a vector of weights, u8 x u8: no splat of X.

    Weights are larger than they are; vraddub sums the bytes of X on the side.
    """

    name = "vrmpy_word"

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        if count == 1:
            return [[chunks[0]]]
        words = [cast_bits(chunk, "uint64") for chunk in chunks]
        by = tirx.const(32, "uint64")
        parts = [part for word in words for part in (word, tirx.shift_right(word, by))]
        return [[cast_bits(tirx.Cast("uint32", part), "int32")] for part in parts]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        words = cast_bits(weights[0], WORDS)
        return call("llvm.hexagon.V6.vrmpyub.acc.128B", WORDS, acc, words, spread[0])

    def summed(self, total: Expr, chunks: Sequence[Expr]) -> Expr:
        """total + the bytes of X in int32 or int64 words; both halves of `total` count."""
        name = "llvm.hexagon.A2.vraddub.acc"
        wide = [tirx.Cast("int64", cast_bits(c, "uint32")) if str(c.ty) == "int32" else c
                for c in chunks]  # fmt: skip
        wide += [tirx.const(0, "int64")] * (len(wide) % 2)
        for i in range(0, len(wide), 2):
            total = call(name, "int64", total, wide[i], wide[i + 1])
        return total

    def corrected(self, acc: Expr, total: Expr, larger: int) -> Expr:
        """acc less the excess of weights that are `larger`."""
        by = tirx.const(32, "int64")
        total_pairs = tirx.Cast("int32", total) + tirx.Cast("int32", tirx.shift_right(total, by))
        more = total_pairs * tirx.const(-larger, "int32")
        return acc + call("llvm.hexagon.V6.lvsplatw.128B", WORDS, more)
