"""Hexagon's vectors of 128 bytes: vrmpy, u8 x i8, four products into each of 32 lanes."""

from __future__ import annotations

from qir.backends.tvm.dots.vector import PackingDot
from qir.backends.tvm.kernels.writer import Expr, call, cast_bits

WORDS, SHORTS, BYTES = "int32x32", "int16x64", "int8x128"


class Vrmpy(PackingDot):
    name = "vrmpy"

    def spread(self, word: Expr) -> list[Expr]:
        return [call("llvm.hexagon.V6.lvsplatw.128B", WORDS, word)]

    def widen(self, words: Expr) -> list[Expr]:
        return [cast_bits(words, WORDS)]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        words = cast_bits(weights[0], WORDS)
        return call("llvm.hexagon.V6.vrmpybusv.acc.128B", WORDS, acc, spread[0], words)

    def pack_words(self, a: Expr, b: Expr) -> Expr:
        packed = call("llvm.hexagon.V6.vpackwh.sat.128B", WORDS, b, a)
        return cast_bits(packed, SHORTS)

    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        name = "vpackhub" if dtype == "uint8" else "vpackhb"
        parts = [cast_bits(v, WORDS) for v in (b, a)]
        packed = call(f"llvm.hexagon.V6.{name}.sat.128B", WORDS, *parts)
        return cast_bits(packed, f"{dtype}x128")


def high_product(a: Expr, b: Expr) -> Expr:
    """(a * low half of b, unsigned) >> 16 in every lane."""
    return call("llvm.hexagon.V6.vmpyewuh.128B", WORDS, a, b)


def low_product(a: Expr, b: Expr) -> Expr:
    """The low 32 bits of a * low half of b, unsigned."""
    return call("llvm.hexagon.V6.vmpyiewuh.128B", WORDS, a, b)


def added_high(acc: Expr, a: Expr, b: Expr) -> Expr:
    """(acc + a * high half of b, signed) >> 15, the sum in more than 32 bits."""
    return call("llvm.hexagon.V6.vmpyowh.sacc.128B", WORDS, acc, a, b)
