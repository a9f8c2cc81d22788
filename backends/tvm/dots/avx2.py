"""AVX2 without VNNI: vpmaddubsw on all of X, or on halves of its bits; vpmaddwd on int16."""

from __future__ import annotations

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots.vnni import Vnni256
from qir.backends.tvm.kernels.writer import Expr, call, cast_bits, shuffle, splat


class Avx2Pairs(Vnni256):
    """vpmaddubsw, vpmaddwd by one, vpaddd, where sums of two products are proven to fit int16."""

    name = "avx2_pairs"
    factors: tuple[int, ...] = (1,)
    """What the sums of each operand form of X count."""

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        return self.widened(acc, self.paired(spread, weights), splat(1, "int16", 16))

    def paired(self, spread: list[Expr], weights: list[Expr]) -> list[Expr]:
        """For each form the sums of two products of a step: those of several can be added."""
        return [call("llvm.x86.avx2.pmadd.ub.sw", "int16x16", x, weights[0]) for x in spread]

    def widened(self, acc: Expr, pairs: list[Expr], mult: Expr) -> Expr:
        """acc + the sums of each lane times its multiplier, in int32."""
        for factor, part in zip(self.factors, pairs, strict=True):
            larger = mult * splat(factor, "int16", 16)
            acc = acc + call("llvm.x86.avx2.pmadd.wd", "int32x8", part, larger)
        return acc

    def multiplier(self, mult: Expr) -> Expr:
        """For both sums of a lane, as `widened` takes them."""
        picks = [p for lane in range(8) for p in (lane, 8, lane, 8)]
        zeros = [splat(0, "uint8", 8)] * 3  # a shuffle has no more lanes than what it takes from
        return cast_bits(shuffle([mult, *zeros], picks), "int16x16")


class Nibbles(Avx2Pairs):
    """`Avx2Pairs` on the low and high four bits of X apart: sums of eight steps fit any weights.

    They are 8 * 2 * 15 * 128 = 30720 of 32767 at most. No weight is widened, so this reads each
    from memory once: for one pixel, or for panels too large to be held.
    """

    name = "avx2_nibbles"
    factors = (1, 16)

    def widen(self, words: Expr) -> list[Expr]:
        mask = splat(15, "uint8", 32)
        high_nibbles = tirx.shift_right(cast_bits(words, "uint16x16"), splat(4, "uint16", 16))
        return [tirx.bitwise_and(x, mask) for x in (words, cast_bits(high_nibbles, "uint8x32"))]


class Wide(Vnni256):
    """Two vpmaddwd and two vpaddd; X is widened once for all its uses, and so are weights."""

    name = "avx2_wide"

    def widen(self, words: Expr) -> list[Expr]:
        """The first and the second pair of each four bytes, as int16."""
        return [_pairs(words, "uint8", first, is_high=False) for first in (0, 2)]

    def widen_weights(self, weights: Expr) -> list[Expr]:
        high = [_pairs(weights, "int8", first, is_high=True) for first in (0, 2)]
        return [tirx.shift_right(pairs, splat(8, "int16", 16)) for pairs in high]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        for x, w in zip(spread, weights, strict=True):
            acc = acc + call("llvm.x86.avx2.pmadd.wd", "int32x8", x, w)
        return acc


def _pairs(words: Expr, dtype: str, first: int, is_high: bool) -> Expr:
    """Bytes `first` and the next of each four, in the low or high half of an int16 each."""
    picks = []
    for byte in (4 * lane + first + i for lane in range(8) for i in (0, 1)):
        picks += [32, byte] if is_high else [byte, 32]  # 32: a zero
    return cast_bits(shuffle([words, splat(0, dtype, 32)], picks), "int16x16")
