"""Dense and grouped contractions as TIR: one blocked nest around a dot, epilogue in registers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qir.backends.kernels.dense import DenseCode
from qir.backends.kernels.plane import Plane
from qir.backends.kernels.tiling import UNROLLED_STEPS
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.dots import DOTS
from qir.backends.tvm.kernels.epilogue import VectorEpilogue
from qir.backends.tvm.kernels.stores import Stores
from qir.backends.tvm.kernels.writer import Expr, Registers, Writer, cast_bits, splat

FLIP = -0x7F7F7F80  # 0x80808080: turns four i8 into four u8, each 128 larger


@dataclass(frozen=True)
class _Unit:
    """Where one unit of work reads and writes: element offsets, byte offsets of constants."""

    x: Expr
    y: Expr
    residual: Expr
    weights: Expr
    records: Expr


class _Dense:
    def __init__(self, code: DenseCode) -> None:
        self.code, self.dot, self.writer = code, DOTS[code.dot], Writer()
        w = self.writer
        self.x = w.pointer("x", code.x.dtype)
        self.pointer = self.constants = w.pointer("constants", "int8")
        self.residual = w.pointer("residual", code.residual.dtype) if code.residual else None
        self.y = w.pointer("y", code.y.dtype)
        self.begin, self.end = w.scalar("begin"), w.scalar("end")
        self.epilogue = VectorEpilogue(w, self.dot, code.epilogue, self.constants)

    def build(self, symbol: str) -> PrimFunc:
        with self.writer.loop(self.begin, self.end, "unit") as unit:
            self.constants = self.writer.anew(self.pointer)
            self.epilogue = VectorEpilogue(
                self.writer, self.dot, self.code.epilogue, self.constants
            )
            at = self._locate(unit)
            acc = self._accumulate(at)
            self._finish(at, acc)
        return self.writer.finish(symbol)

    def _locate(self, unit: Expr) -> _Unit:
        code, let = self.code, self.writer.let
        rest, tile = self.writer.split(unit, code.row_tiles)
        rest, row = self.writer.split(rest, code.column_tiles)
        panel, image = self.writer.split(rest, code.y.batch)
        first = (
            let(tirx.min(tile * code.tile.pixels, code.y.width - code.tile.pixels))
            if code.row_tiles > 1
            else 0
        )
        if code.column_tiles > 1 and code.tile.rows > 1:
            row = let(tirx.min(row * code.tile.rows, code.y.height - code.tile.rows))
        group, local = self.writer.split(panel, code.group_panels)
        share = code.y.channels // code.groups
        width = code.tile.vectors * self.dot.lanes
        start = let(tirx.min(local * width, share - width)) if code.group_panels > 1 else 0
        channel = group * share + start
        sy, sx = code.strides
        offset = self._offset
        x = offset(code.x, image, row * sy, first * sx) + group * (code.x.channels // code.groups)
        residual = offset(code.residual, image, row, first) + channel if code.residual else 0
        return _Unit(
            x=let(x, "x_at"),
            y=let(offset(code.y, image, row, first) + channel, "y_at"),
            residual=let(residual, "r_at"),
            weights=let(panel * code.panel_bytes, "w_at"),
            records=let(panel * (code.tile.vectors * code.record_bytes) + code.records_at, "k_at"),
        )

    @staticmethod
    def _offset(plane: Plane, image: Expr, row: Expr, column: Expr) -> Expr:
        return image * plane.pitch_n + row * plane.pitch_y + column * plane.pitch_x

    def _place(self, plane: Plane, index: int, strides: tuple[int, int] = (1, 1)) -> int:
        """Offset of one pixel of a tile from its first."""
        row, column = divmod(index, self.code.tile.pixels)
        return row * strides[0] * plane.pitch_y + column * strides[1] * plane.pitch_x

    def _accumulate(self, at: _Unit) -> list[Expr]:
        """The tile's accumulators, [pixel][vector]."""
        code, w, tile = self.code, self.writer, self.code.tile
        count = tile.places * tile.vectors
        acc = w.registers(count * tile.splits, "int32", self.dot.lanes)
        for i in range(count * tile.splits):
            acc[i] = splat(0, "int32", self.dot.lanes)
        if code.epilogue.fused:
            for i in range(count):
                record = at.records + i % tile.vectors * code.record_bytes
                acc[i] = self._epilogue(i).start(record)
        runs = code.runs
        with w.steps(runs.rows, "ky") as ky, w.steps(runs.columns, "kx") as kx:
            x = w.let(at.x + ky * runs.pitch_y + kx * runs.pitch_x)
            weights = w.let(at.weights + (ky * runs.columns + kx) * (code.steps * code.step_bytes))
            self._run(acc, x, weights)
        if tile.splits > 1:
            return [
                sum((acc[s * count + i] for s in range(1, tile.splits)), acc[i])
                for i in range(count)
            ]
        return [acc[i] for i in range(count)]

    def _run(self, acc: Registers, x: Expr, weights: Expr) -> None:
        """All dots of one run, splits in turn."""
        code = self.code
        splits, steps = code.tile.splits, code.steps
        looped = 0 if steps <= UNROLLED_STEPS else steps // splits
        if looped:
            with self.writer.loop(0, looped, "k") as k:
                for s in range(splits):
                    self._step(
                        acc,
                        s,
                        x + k * (4 * splits) + 4 * s,
                        weights + (k * splits + s) * code.step_bytes,
                    )
        for step in range(looped * splits, steps):
            self._step(acc, step % splits, x + 4 * step, weights + step * code.step_bytes)

    def _step(self, acc: Registers, split: int, x: Expr, weights: Expr) -> None:
        code, w, dot = self.code, self.writer, self.dot
        tile, size, forms = code.tile, self.dot.lanes * 4, code.machine.forms
        loaded = [
            [
                w.let(w.load(self.constants, weights + (v * forms + f) * size, size), "w")
                for f in range(forms)
            ]
            for v in range(tile.vectors)
        ]
        for p in range(tile.places):
            place = self._place(code.x, p, code.strides)
            word = cast_bits(w.load(self.x, x + place, 4), "int32")
            if code.x.dtype == "int8":
                word = tirx.bitwise_xor(word, tirx.const(FLIP, "int32"))
            spread = [w.let(form, "x") for form in dot.spread(w.let(word))]
            for v in range(tile.vectors):
                i = (split * tile.places + p) * tile.vectors + v
                acc[i] = dot.step(acc[i], spread, loaded[v])

    def _finish(self, at: _Unit, acc: list[Expr]) -> None:
        code, lanes = self.code, self.dot.lanes
        stores = Stores(self.writer, self.y, at.y, code.y.dtype, self.epilogue)
        share = code.y.channels // code.groups
        for p in range(code.tile.places):
            epilogue = self._epilogue(p)
            for v in range(code.tile.vectors):
                offset = self._place(code.y, p) + v * lanes
                residual = self._residual(at, p, v)
                record = at.records + v * code.record_bytes
                value = epilogue.requantize(acc[p * code.tile.vectors + v], record, residual)
                stores.add(value, offset, min(lanes, share - v * lanes))
        stores.flush()

    def _epilogue(self, place: int) -> VectorEpilogue:
        """For one pixel. Constants are loaded anew where instructions would overwrite registers."""
        if place == 0 or not self.code.epilogue.fused:
            return self.epilogue
        return replace(self.epilogue, constants=self.writer.anew(self.pointer))

    def _residual(self, at: _Unit, p: int, v: int) -> Expr:
        if self.residual is None:
            return None
        lanes = self.dot.lanes
        assert self.code.residual is not None
        at_pixel = at.residual + self._place(self.code.residual, p) + v * lanes
        loaded = self.writer.load(self.residual, at_pixel, lanes)
        return self.writer.let(tirx.Cast(f"int32x{lanes}", loaded), "r")


def emit_dense(code: DenseCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, [residual,] y, begin, end)`; units: qir.backends.kernels.dense."""
    return _Dense(code).build(symbol)
