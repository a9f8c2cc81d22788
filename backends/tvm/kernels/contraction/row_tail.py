"""The tail by rows of a dense contraction: scale_rows of its raw sums, in registers.

Its forms are those of qir.backends.kernels.contraction.row_tail.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.row_tail import HALF, long_bias
from qir.backends.kernels.dots import Scheme
from qir.backends.kernels.plane import Plane
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots import VectorDot
from qir.backends.tvm.kernels.contraction.channels import WorkUnit
from qir.backends.tvm.kernels.longs import Longs, widening
from qir.backends.tvm.kernels.requantize.epilogue import VectorEpilogue
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    clipped_shift,
    exponent,
    long,
    mantissa,
    rounded,
)
from qir.backends.tvm.kernels.stores import store_lanes
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, Writer, cast, cast_bits, clamp, splat
from qir.ir.ops.sequence.rows import FRACTION


@dataclass(frozen=True)
class _Lanes:
    """One vector of a tile: where its numbers are, its raw sums, its residual in int32; the numbers
    that all channels have.
    """

    epilogue: VectorEpilogue
    record: Expr
    total: Expr
    residual: Expr
    shared: Mapping[str, Expr]

    def words(self, name: str) -> Expr:
        return self.epilogue.word(self.record, name)

    def longs(self, name: str) -> Expr:
        return self.epilogue.field(self.record, name, LONG, self.epilogue.dot.lanes)


class RowTailWriter(ABC):
    """Pointers `residual`, if there is one, and `scale`."""

    def __init__(self, w: Writer, code: DenseCode, dot: VectorDot) -> None:
        assert code.rows is not None
        self.w, self.code, self.dot, self.rows = w, code, dot, code.rows
        other = self.rows.residual
        self.residual = w.pointer("residual", other.dtype) if other else None
        self.scale = w.pointer("scale", "int32")

    def finish(self, epilogue: VectorEpilogue, y: Expr, at: WorkUnit, acc: list[Expr]) -> None:
        """Stores the tile whose sums are `acc`, [pixel][vector]."""
        w, code, lanes = self.w, self.code, self.dot.lanes
        scale_at, residual_at = self._first(self.rows.scale, at), 0
        if self.rows.residual is not None:
            residual_at = w.let(self._first(self.rows.residual, at) + self._channel(at))
        shared = {name: self._shared(epilogue, name) for name in self.rows.shared}
        for p in range(code.tile.places):
            scale = w.let(w.load(self.scale, scale_at + self._place(self.rows.scale, p)))
            row = self._row(w.let(mantissa(scale)), w.let(exponent(scale)), shared)
            for v in range(code.tile.vectors):
                record = at.records + v * (code.spacing * code.record_bytes)
                total = w.let(epilogue.requantize(acc[p * code.tile.vectors + v], record))
                residual = None
                if self.rows.residual is not None:
                    place = self._place(self.rows.residual, p) + at.channels[v]
                    elements = w.load(self.residual, residual_at + place, lanes)
                    residual = w.let(cast(elements, "int32", lanes))
                value = self._scaled(_Lanes(epilogue, record, total, residual, shared), row)
                offset = self._place(code.y, p) + at.channels[v]
                count = lanes if code.packing.by_vector else code.share - v * lanes
                count = min(lanes, count, code.share)
                store_lanes(w, y, at.y, w.let(value), lanes, 0, offset, count)

    def _channel(self, at: WorkUnit) -> Expr:
        """The first channel of the unit: what is left of its place in Y."""
        return at.y - self._first(self.code.y, at)

    @staticmethod
    def _first(plane: Plane, at: WorkUnit) -> Expr:
        image, row, column = at.pixel
        return image * plane.pitch_n + row * plane.pitch_y + column * plane.pitch_x

    def _place(self, plane: Plane, index: int) -> int:
        row, column = divmod(index, self.code.tile.pixels)
        return row * plane.pitch_y + column * plane.pitch_x

    def _shared(self, epilogue: VectorEpilogue, name: str) -> Expr:
        """A number that all channels have."""
        at = self.code.shared_at + 4 * self.rows.shared.index(name)
        return self.w.let(cast_bits(self.w.load(epilogue.constants, at, 4), "int32"))

    @abstractmethod
    def _row(self, mantissa: Expr, exponent: Expr, shared: Mapping[str, Expr]) -> tuple[Expr, ...]:
        """What depends on the scale of a row alone."""

    @abstractmethod
    def _scaled(self, lanes: _Lanes, row: tuple[Expr, ...]) -> Expr:
        """Lanes as they are stored."""


class LongTail(RowTailWriter):
    """Each term shifted in 64 bits."""

    def _row(self, mantissa: Expr, exponent: Expr, shared: Mapping[str, Expr]) -> tuple[Expr, ...]:
        return mantissa, exponent

    def _scaled(self, at: _Lanes, row: tuple[Expr, ...]) -> Expr:
        w, lanes, rows = self.w, self.dot.lanes, self.rows
        mult = cast(at.words("row_mult"), LONG, lanes)
        if rows.is_short:
            short = w.let(at.total * spread(row[0], lanes))
            product = w.let(cast(short, LONG, lanes) * mult)
        else:
            mantissas = spread(w.let(cast(row[0], LONG, 1)), lanes)
            product = w.let(cast(at.total, LONG, lanes) * mult * mantissas)
        by = at.words("row_shift") - spread(row[1], lanes)
        by = w.let(clipped_shift(w.let(by), lanes)) - splat(1, LONG, lanes)
        double = tirx.shift_right(product, w.let(by))  # z, before it is rounded
        bias = at.longs("row_bias") if rows.has_bias else splat(int(long_bias(0)), LONG, lanes)
        double = double + bias
        if at.residual is not None:
            factor = spread(cast(at.shared["row_residual"], LONG, 1), lanes)
            more = w.let(cast(at.residual, LONG, lanes) * factor)
            more = rounded(w, more, splat(self.code.residual_shift, LONG, lanes), lanes)
            double = double + tirx.shift_left(w.let(more), splat(1, LONG, lanes))
        y = w.let(tirx.shift_right(w.let(double), splat(FRACTION + 1, LONG, lanes)))
        return cast(clamp(y, rows.low, rows.high, LONG, lanes), rows.dtype, lanes)


class HighTail(RowTailWriter):
    """The high words of sums that all are shifted alike."""

    def __init__(self, w: Writer, code: DenseCode, dot: VectorDot) -> None:
        super().__init__(w, code, dot)
        self.longs = widening(w, dot.lanes, code.epilogue.scheme is Scheme.PAIRS)

    def _row(self, mantissa: Expr, exponent: Expr, shared: Mapping[str, Expr]) -> tuple[Expr, ...]:
        """The mantissa, the shift behind high words, and where 2 * (v & 255) + 1 begins."""
        w = self.w
        by = w.let(shared["row_base"] - exponent)
        at = w.let(cast(by, LONG, 1) + long(32 - FRACTION - 1))
        alone = w.let(tirx.shift_left(long(2 * HALF + 1), at))  # of v = 2**7
        return mantissa, by, at, alone

    def _scaled(self, at: _Lanes, row: tuple[Expr, ...]) -> Expr:
        w, lanes, longs = self.w, self.dot.lanes, self.longs
        short = w.let(at.total * spread(row[0], lanes))
        more, upper = self._addend_parts(at, row)
        product = longs.product(longs.signed(short), longs.signed(at.words("row_mult")), more)
        y = tirx.shift_right(w.let(longs.high(product)), spread(row[1], lanes))
        y = w.let(y if upper is None else y + upper)
        return cast(clamp(y, self.rows.low, self.rows.high, "int32", lanes), self.rows.dtype, lanes)

    def _addend_parts(self, at: _Lanes, row: tuple[Expr, ...]) -> tuple[Longs, Expr]:
        """(2 * (v & 255) + 1) << (n - 9), and v >> 8."""
        w, lanes, by = self.w, self.dot.lanes, spread(row[2], self.longs.count)
        if at.residual is None and not self.rows.has_bias:
            return self.longs.broadcast(row[3]), None
        addend = at.words("row_added") if self.rows.has_bias else splat(HALF, "int32", lanes)
        if at.residual is not None:
            addend = addend + self._residual(at)
        addend = w.let(addend)
        mask = splat(2 * (2 * HALF - 1), "int32", lanes)
        double = tirx.bitwise_and(tirx.shift_left(addend, splat(1, "int32", lanes)), mask)
        odd = w.let(tirx.bitwise_or(double, splat(1, "int32", lanes)))
        parts = tuple(tirx.shift_left(w.let(x), by) for x in self.longs.unsigned(odd))
        return parts, tirx.shift_right(addend, splat(FRACTION, "int32", lanes))

    def _residual(self, at: _Lanes) -> Expr:
        """The residual in steps of y / 2**8."""
        w, longs = self.w, self.longs
        value = w.let(tirx.shift_left(at.residual, spread(at.shared["row_left"], self.dot.lanes)))
        factors = longs.uniform(spread(at.shared["row_residual"], self.dot.lanes))
        return longs.high_product(longs.signed(value), factors, longs.broadcast(long(1 << 31)))


def row_tail(w: Writer, code: DenseCode, dot: VectorDot) -> RowTailWriter:
    """The tail in the form of its code."""
    assert code.rows is not None
    return (HighTail if code.rows.is_high else LongTail)(w, code, dot)
