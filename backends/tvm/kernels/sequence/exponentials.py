"""Probabilities of attention on vectors: powers of 2 by a table, in 16 bits."""

from __future__ import annotations

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, call, cast, cast_bits, splat
from qir.ir.ops.sequence.attention import PROBABILITY_TOP

PERMUTED = 32  # words of the table in a register of AVX512
FARTHEST = (31 << 8) | 255  # a distance in steps of 2**-8 that leaves nothing of an exponential


class Exponentials:
    """`lanes` at once; with 32, the table is in eight registers."""

    def __init__(self, w: Script, constants: ConstantBlock, lanes: int) -> None:
        self.w, self.constants, self.lanes = w, constants, lanes

    def of(self, most: Expr, scores: Expr) -> Expr:
        """p of each score, as lanes of u16 up to 255."""
        w, lanes = self.w, self.lanes
        top = cast_bits(spread(most, lanes), f"uint32x{lanes}")
        # Unsigned, since the distance of a hidden key may have 32 bits.
        distance = top - cast_bits(scores, f"uint32x{lanes}")
        steps = tirx.shift_right(w.let(distance), splat(4, "uint32", lanes))
        near = w.let(tirx.min(steps, splat(FARTHEST, "uint32", lanes)))
        at = w.let(cast(near, "uint16", lanes))
        power = self._looked_up(w.let(tirx.bitwise_and(at, _word(255, lanes))))
        value = w.let(tirx.shift_right(power, tirx.shift_right(at, _word(8, lanes))))
        # (value + 128) >> 8 without a carry out of 16 bits
        half = tirx.bitwise_and(tirx.shift_right(value, _word(7, lanes)), _word(1, lanes))
        p = tirx.shift_right(value, _word(8, lanes)) + half
        return w.let(tirx.min(w.let(p), _word(PROBABILITY_TOP, lanes)))

    def _looked_up(self, index: Expr) -> Expr:
        w, lanes = self.w, self.lanes
        if lanes != PERMUTED:
            base = self.constants.index("halves")
            at = cast(index, "int32", lanes) + splat(base, "int32", lanes)
            return w.let(tirx.BufferLoad(self.constants.view("uint16"), [w.let(at)]))
        parts = [w.let(self.constants.take("halves", 32 * i, 1, 32)) for i in range(8)]
        name, kind = "llvm.x86.avx512.vpermi2var.hi.512", f"uint16x{lanes}"
        selected = [call(name, kind, parts[i], index, parts[i + 1]) for i in (0, 2, 4, 6)]
        for bit in (64, 128):
            part = w.let(tirx.bitwise_and(index, _word(bit, lanes)))
            selected = [
                w.let(tirx.Select(tirx.LT(part, _word(bit, lanes)), selected[i], selected[i + 1]))
                for i in range(0, len(selected), 2)
            ]
        return selected[0]


def _word(value: int, lanes: int) -> Expr:
    return splat(value, "uint16", lanes)
