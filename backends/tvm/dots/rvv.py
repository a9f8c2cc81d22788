"""RISC-V vectors: one byte of X times a vector of weights, widened and added (vwmacc.vx)."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots.vector import VectorDot
from qir.backends.tvm.kernels.writer import Expr


class Vwmacc(VectorDot):
    """Two vector registers of 128 bits hold the eight lanes of an accumulator."""

    name = "vwmacc"

    def spreads(self, chunks: Sequence[Expr], count: int, dtype: str) -> list[list[Expr]]:
        short = tirx.Cast("int16", chunks[0])
        return [[tirx.Broadcast(short, self.lanes)]]

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        wide, short = f"int32x{self.lanes}", f"int16x{self.lanes}"
        return acc + tirx.Cast(wide, spread[0]) * tirx.Cast(wide, tirx.Cast(short, weights[0]))
