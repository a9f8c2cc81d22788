"""Reads a panel of a dense contraction: weights a step at a time, multipliers a group at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qir.backends.kernels.contraction.bits import fields
from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.tvm.dots import VectorDot
from qir.backends.tvm.kernels.contraction.unpack import unpack
from qir.backends.tvm.kernels.writer import Expr, Writer, cast_bits, shuffle


class Panel:
    """The weights and multipliers of one unit of work, from their offsets in `blocks` on.

    `widened`: the weights of the unit's panel as int16, where it was widened first.
    """

    def __init__(
        self,
        code: DenseCode,
        dot: VectorDot,
        writer: Writer,
        blocks: tuple[Expr, Expr],
        widened: Expr = None,
    ) -> None:
        self.code, self.dot, self.writer = code, dot, writer
        self.weights, self.constants = blocks
        self.widened = widened

    def stretch(self, at: Expr, steps: int) -> Callable[[int], list[list[Expr]]]:
        """The weights of each of `steps` steps whose rows begin at `at`: [vector][form].

        Rows that hold several steps are loaded once.
        """
        if self.widened is not None:
            return partial(self._widened, at)
        code, rows = self.code, dict[tuple[int, int], Expr]()
        size, bits = code.machine.weight_bytes, code.packing.bits

        def row(v: int, f: int, number: int) -> Expr:
            key = number, v * code.machine.forms + f
            if key not in rows:
                offset = (at + number * code.row_pitch) + (v * code.vector_pitch + f * size)
                rows[key] = self.writer.let(self.writer.load(self.weights, offset, size), "w")
            return rows[key]

        def weights(step: int) -> list[list[Expr]]:
            parts = fields(bits, step, steps)
            is_raised = code.machine.weight_offset > 0
            return [
                [
                    self.writer.let(unpack(partial(row, v, f), parts, size, is_raised), "w")
                    for f in range(code.machine.forms)
                ]
                for v in range(code.tile.vectors)
            ]

        return weights

    def _widened(self, at: Expr, step: int) -> list[list[Expr]]:
        code, w = self.code, self.writer
        lanes = code.machine.weight_bytes // 2
        first = at + step * code.row_pitch
        return [
            [
                w.let(w.load(self.widened, first + v * code.vector_pitch + f * lanes, lanes), "w")
                for f in (0, 1)
            ]
            for v in range(code.tile.vectors)
        ]

    def multipliers(self, at: Expr) -> list[Expr]:
        """Those of one group of input channels, by vector."""
        code, w, lanes = self.code, self.writer, self.dot.lanes
        size = code.machine.vector_bytes if code.machine.aligned else lanes
        mults = []
        for v in range(code.tile.vectors):
            mult = w.load(self.constants, at + v * code.mult_pitches[1], size)
            if size > lanes:  # such machines take vectors whole, or byte by byte
                mult = shuffle([mult], range(lanes))
            mult = cast_bits(mult, f"uint8x{lanes}" if lanes > 1 else "uint8")
            mults.append(w.let(self.dot.multiplier(mult), "mult"))
        return mults
