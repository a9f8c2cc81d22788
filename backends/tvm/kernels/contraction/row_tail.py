"""The tail by rows of a dense contraction: scale_rows of its raw sums, in registers."""

from __future__ import annotations

from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.plane import Plane
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.dots import VectorDot
from qir.backends.tvm.kernels.contraction.channels import WorkUnit
from qir.backends.tvm.kernels.requantize.epilogue import VectorEpilogue
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    clipped_shift,
    exponent,
    mantissa,
    rounded,
)
from qir.backends.tvm.kernels.stores import store_lanes
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, Writer, cast, clamp, splat
from qir.ir.ops.sequence.rows import FRACTION


class RowTailWriter:
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
        for p in range(code.tile.places):
            scale = w.let(w.load(self.scale, scale_at + self._place(self.rows.scale, p)))
            a, e = w.let(mantissa(scale)), w.let(exponent(scale))
            for v in range(code.tile.vectors):
                record = at.records + v * (code.spacing * code.record_bytes)
                total = w.let(epilogue.requantize(acc[p * code.tile.vectors + v], record))
                residual = None
                if self.rows.residual is not None:
                    place = self._place(self.rows.residual, p) + at.channels[v]
                    loaded = w.load(self.residual, residual_at + place, lanes)
                    residual = w.let(cast(loaded, "int32", lanes))
                value = self._scaled(epilogue, total, (a, e), record, residual)
                offset = self._place(code.y, p) + at.channels[v]
                count = lanes if code.packing.apart else code.share - v * lanes
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

    def _scaled(
        self, epilogue: VectorEpilogue, total: Expr, scale: tuple[Expr, Expr], record: Expr,
        residual: Expr,
    ) -> Expr:  # fmt: skip
        """Lanes as they are stored."""
        w, lanes, rows = self.w, self.dot.lanes, self.rows
        mult = cast(epilogue.field(record, "row_mult", "int32", lanes), LONG, lanes)
        if rows.is_short:
            short = w.let(total * spread(scale[0], lanes))
            product = w.let(cast(short, LONG, lanes) * mult)
        else:
            mantissas = spread(w.let(cast(scale[0], LONG, 1)), lanes)
            product = w.let(cast(total, LONG, lanes) * mult * mantissas)
        by = epilogue.field(record, "row_shift", "int32", lanes) - spread(scale[1], lanes)
        by = w.let(clipped_shift(w.let(by), lanes)) - splat(1, LONG, lanes)
        twice = tirx.shift_right(product, w.let(by))  # z, before it is rounded
        twice = twice + epilogue.field(record, "row_bias", LONG, lanes)
        if residual is not None:
            factor = cast(epilogue.field(record, "row_residual", "int32", lanes), LONG, lanes)
            more = w.let(cast(residual, LONG, lanes) * factor)
            more = rounded(w, more, splat(self.code.residual_shift, LONG, lanes), lanes)
            twice = twice + tirx.shift_left(w.let(more), splat(1, LONG, lanes))
        y = w.let(tirx.shift_right(w.let(twice), splat(FRACTION + 1, LONG, lanes)))
        return cast(clamp(y, rows.low, rows.high, LONG, lanes), rows.dtype, lanes)
