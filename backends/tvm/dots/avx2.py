"""AVX2 without VNNI: vpmaddubsw where int16 pair sums are proven to fit, else vpmaddwd."""

from __future__ import annotations

from qir.backends.tvm.dots.vnni import Vnni256
from qir.backends.tvm.kernels.writer import Expr, call, cast_bits, shuffle, splat


class Pairs(Vnni256):
    """vpmaddubsw, vpmaddwd by one, vpaddd."""

    name = "avx2_pairs"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        return self.widened(acc, self.paired(spread, weights), splat(1, "int16", 16))

    def paired(self, spread: list[Expr], weights: list[Expr]) -> Expr:
        """The sums of two products of one step, in int16: those of several can be added."""
        return call("llvm.x86.avx2.pmadd.ub.sw", "int16x16", spread[0], weights[0])

    def widened(self, acc: Expr, pairs: Expr, mult: Expr) -> Expr:
        """acc + the sums of each lane times its multiplier, in int32."""
        return acc + call("llvm.x86.avx2.pmadd.wd", "int32x8", pairs, mult)

    def multiplier(self, mult: Expr) -> Expr:
        """For both sums of a lane, as `widened` takes them."""
        picks = [p for lane in range(8) for p in (lane, 8, lane, 8)]
        zeros = [splat(0, "uint8", 8)] * 3  # a shuffle has no more lanes than what it takes from
        return cast_bits(shuffle([mult, *zeros], picks), "int16x16")


class Wide(Vnni256):
    """Two vpmaddwd and two vpaddd; weights are int16, a word is widened once for all its uses."""

    name = "avx2_wide"

    def widen(self, words: Expr) -> list[Expr]:
        zero = splat(0, "uint8", 32)
        forms = []
        for first in (0, 2):
            picks = [
                p for lane in range(8) for p in (4 * lane + first, 32, 4 * lane + first + 1, 32)
            ]
            forms.append(cast_bits(shuffle([words, zero], picks), "int16x16"))
        return forms

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        for x, w in zip(spread, weights, strict=True):
            acc = acc + call("llvm.x86.avx2.pmadd.wd", "int32x8", x, cast_bits(w, "int16x16"))
        return acc
