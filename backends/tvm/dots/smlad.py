"""Cortex-M: smlad on pairs of 16 bits, and vmladava on 16 bytes where there is MVE."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots.vector import VectorDot
from qir.backends.tvm.kernels.writer import Expr, call, cast_bits


class Smlad(VectorDot):
    """Four bytes become two pairs of 16 bits; a scalar machine has one lane."""

    name = "smlad"

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        return [halves(chunks[0], "llvm.arm.uxtb16" if dtype == "uint8" else "llvm.arm.sxtb16")]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        word = cast_bits(weights[0], "int32")
        for x, w in zip(spread, halves(word, "llvm.arm.sxtb16"), strict=True):
            acc = call("llvm.arm.smlad", "int32", x, w, acc)
        return acc


class Vmladava(VectorDot):
    """Sixteen products are added to one scalar accumulator."""

    name = "vmladava"

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        return [[cast_bits(chunks[0], "int8x16")]]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        plain = [tirx.const(0, "int32")] * 3  # signed, adding, not exchanging
        name = "llvm.arm.mve.vmldava.v16i8"
        return call(name, "int32", *plain, acc, spread[0], weights[0])


def halves(word: Expr, extend: str) -> list[Expr]:
    """Bytes 0 and 2, and bytes 1 and 3, each two in a word of 16-bit halves."""
    by = tirx.const(8, "uint32")
    shifted = cast_bits(tirx.shift_right(cast_bits(word, "uint32"), by), "int32")
    return [call(extend, "int32", word), call(extend, "int32", shifted)]
