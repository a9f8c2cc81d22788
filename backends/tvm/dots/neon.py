"""NEON: sdot, usdot and usmmla, and without them products in 16 bits, added in pairs."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots.vector import PackingDot
from qir.backends.tvm.kernels.writer import Expr, call, cast_bits, shuffle

BYTES, WORDS = "int8x16", "int32x4"


class _Packs(PackingDot):
    """The saturating narrowings; `narrow` names those of 32 bits, of 16 to i8, of 16 to u8."""

    narrow = tuple(f"llvm.aarch64.neon.{n}" for n in ("sqxtn.v4i16", "sqxtn.v8i8", "sqxtun.v8i8"))

    def pack_words(self, a: Expr, b: Expr) -> Expr:
        return shuffle([call(self.narrow[0], "int16x4", v) for v in (a, b)], range(8))

    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        name = self.narrow[2 if dtype == "uint8" else 1]
        return shuffle([call(name, f"{dtype}x8", v) for v in (a, b)], range(16))


class Neon(_Packs):
    """Four words of X are loaded at once; each is a lane of that vector, in every lane."""

    operand_type = BYTES

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        if count == 1:
            return [[cast_bits(tirx.Broadcast(chunks[0], 4), self.operand_type)]]
        words = cast_bits(chunks[0], WORDS)
        return [[cast_bits(shuffle([words], [i] * 4), self.operand_type)] for i in range(count)]

    def widen(self, words: Expr) -> list[Expr]:
        return [cast_bits(words, self.operand_type)]


class Sdot(Neon):
    name = "sdot"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        return call("llvm.aarch64.neon.sdot.v4i32.v16i8", WORDS, acc, weights[0], spread[0])


class Usdot(Neon):
    name = "usdot"
    operand_type = "uint8x16"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        return call("llvm.aarch64.neon.usdot.v4i32.v16i8", WORDS, acc, spread[0], weights[0])


class Usmmla(_Packs):
    """Two pixels and two channels in each accumulator; a weight vector is two channels of eight."""

    name = "usmmla"

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        if count == 1:
            return [[cast_bits(shuffle(chunks, [0, 1]), "uint8x16")]]
        pixels = [cast_bits(c, "int64x2") for c in chunks]
        return [[cast_bits(shuffle(pixels, [i, i + 2]), "uint8x16")] for i in range(count)]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        raise AssertionError("usmmla has two rows")

    def steps(self, acc: list[Expr], spread: list[Expr], weights: list[Expr]) -> list[Expr]:
        name = "llvm.aarch64.neon.usmmla.v4i32.v16i8"
        return [call(name, WORDS, a, spread[0], w) for a, w in zip(acc, weights, strict=True)]

    def parted(self, acc: list[Expr]) -> list[Expr]:
        return [shuffle(acc, [0, 1, 4, 5]), shuffle(acc, [2, 3, 6, 7])]


class NeonPairs(Neon):
    """smull, smull2, addp, sadalp: sums of two products must fit 16 bits."""

    name = "neon_pairs"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        products = [product(spread[0], weights[0], half) for half in (0, 1)]
        pairs = call("llvm.aarch64.neon.addp.v8i16", "int16x8", *products)
        return acc + call("llvm.aarch64.neon.saddlp.v4i32.v8i16", WORDS, pairs)


class NeonWide(Neon):
    """smull, smull2, two saddlp, addp: exact for all bytes."""

    name = "neon_wide"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        products = [product(spread[0], weights[0], half) for half in (0, 1)]
        pairs = [call("llvm.aarch64.neon.saddlp.v4i32.v8i16", WORDS, p) for p in products]
        return acc + call("llvm.aarch64.neon.addp.v4i32", WORDS, *pairs)


class _Armv7(Neon):
    narrow = tuple(f"llvm.arm.neon.{n}" for n in ("vqmovns.v4i16", "vqmovns.v8i8", "vqmovnsu.v8i8"))


class Armv7Pairs(_Armv7):
    """Two vmull.s8, two vpadd.i16, vpadal.s16: sums of two products must fit 16 bits."""

    name = "armv7_pairs"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        pairs = []
        for half in (0, 1):
            products = product(spread[0], weights[0], half)
            parts = [shuffle([products], range(i, i + 4)) for i in (0, 4)]
            pairs.append(call("llvm.arm.neon.vpadd.v4i16", "int16x4", *parts))
        return call("llvm.arm.neon.vpadals.v4i32.v8i16", WORDS, acc, shuffle(pairs, range(8)))


class Armv7Wide(_Armv7):
    """Two vmull.s8, two vpaddl.s16, two vpadd.i32: exact for all bytes."""

    name = "armv7_wide"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        sums = []
        for half in (0, 1):
            products = product(spread[0], weights[0], half)
            pairs = call("llvm.arm.neon.vpaddls.v4i32.v8i16", WORDS, products)
            parts = [shuffle([pairs], range(i, i + 2)) for i in (0, 2)]
            sums.append(call("llvm.arm.neon.vpadd.v2i32", "int32x2", *parts))
        return acc + shuffle(sums, range(4))


def product(a: Expr, b: Expr, half: int) -> Expr:
    """Eight products of int8 in int16, of the low or the high half."""
    lanes = range(8 * half, 8 * half + 8)
    wide = [tirx.Cast("int16x8", shuffle([cast_bits(v, BYTES)], lanes)) for v in (a, b)]
    return wide[0] * wide[1]
