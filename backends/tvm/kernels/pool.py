"""Pooling in TIR, vectorized over channels."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from qir.backends.kernels.plane import Plane
from qir.backends.kernels.pool import MaxPoolCode, SumPoolCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.requantize.scaling import Scaler
from qir.backends.tvm.kernels.script import ConstantBlock, Script, width_of
from qir.backends.tvm.kernels.sums import LaneSums, dot
from qir.backends.tvm.kernels.writer import Expr

UNROLLED_TAPS = 32  # windows this small have no loop, where vectors make them short


def place(plane: Plane, image: Expr, row: Expr, column: Expr) -> Expr:
    """The offset of a pixel."""
    return image * plane.pitch_n + row * plane.pitch_y + column * plane.pitch_x


def _unrolls(code: MaxPoolCode | SumPoolCode) -> bool:
    return code.vector_bytes > 0 and code.kernel[0] * code.kernel[1] <= UNROLLED_TAPS


def emit_max_pool(code: MaxPoolCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, (ky, kx) = Script(), code.kernel
    x = w.pointer("x", code.x.dtype)
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y.dtype)
    lanes = width_of(code.vector_bytes, code.y.dtype)
    with w.units() as unit:
        image, row = w.split(unit, code.y.height)
        above = w.let(image * code.x.pitch_n)
        with w.steps(code.y.width, "column") as column:
            y_at = w.let(place(code.y, image, row, column))

            def tap(a: Expr, b: Expr) -> Expr:
                down = constants.take("rows", row * ky + a)
                across = constants.take("columns", column * kx + b)
                return w.let(above + down + across)

            def channels(at: Expr, width: int) -> None:
                if _unrolls(code):
                    value = None
                    for a in range(ky):
                        for b in range(kx):
                            each = w.let(w.load(x, tap(a, b) + at, width))
                            value = each if value is None else w.let(tirx.max(value, each))
                    w.store(y, y_at + at, value, width)
                    return
                most = w.registers(1, code.y.dtype, width)
                most[0] = w.load(x, tap(0, 0) + at, width)
                with w.steps(ky, "ky") as a, w.steps(kx, "kx") as b:
                    most[0] = tirx.max(most[0], w.load(x, tap(a, b) + at, width))
                w.store(y, y_at + at, most[0], width)

            w.spans(code.y.channels, lanes, channels)
    return w.finish(symbol)


def emit_sum_pool(code: SumPoolCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    return _SumPool(code).build(symbol)


@dataclass(frozen=True)
class _Window:
    """Where one output's taps begin in x and how many they are; where its constants and y are.

    `start`: the sum of the zero points, negative.
    """

    corner: Expr
    rows: Expr
    columns: Expr
    start: Expr
    param: Expr
    y_at: Expr


class _SumPool:
    def __init__(self, code: SumPoolCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.x.dtype)
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", code.y.dtype)

    def build(self, symbol: str) -> PrimFunc:
        w, code, take = self.script, self.code, self.constants.take
        lanes = width_of(code.vector_bytes, code.x.dtype) if code.params[3] in (0, 1) else 1
        with w.units() as unit:
            image, row = w.split(unit, code.y.height)
            rows = w.let(take("pool_rows", row)) if code.clips else code.kernel[0]
            above = w.let(image * code.x.pitch_n + take("pool_row", row))
            with w.steps(code.y.width, "column") as column:
                columns = w.let(take("pool_columns", column)) if code.clips else code.kernel[1]
                window = _Window(
                    w.let(above + take("pool_column", column)),
                    rows,
                    columns,
                    w.let(take("pool_minus_zero") * rows * columns),
                    dot((image, row, column), code.params),
                    w.let(place(code.y, image, row, column)),
                )
                w.spans(code.y.channels, lanes, partial(self._channels, window))
        return w.finish(symbol)

    def _channels(self, window: _Window, at: Expr, width: int) -> None:
        w, code, (ky, kx) = self.script, self.code, self.code.kernel
        sums = LaneSums(w, code.x.dtype, ky * kx, width, window.start)
        if not _unrolls(code):
            self._loop(sums, window, at, width)
        else:
            full = tirx.And(tirx.EQ(window.rows, ky), tirx.EQ(window.columns, kx))
            with w.when(full) if code.clips else nullcontext():
                for a in range(ky):
                    for b in range(kx):
                        sums.add(self._tap(window, at, a, b, width))
            if code.clips:
                with w.when(tirx.Not(full)):
                    self._loop(sums, window, at, width)
        lanes = width_of(code.vector_bytes, "int32")
        sums.each(lanes, lambda value, o, n: self._store(window, value, at + o, n))

    def _loop(self, sums: LaneSums, window: _Window, at: Expr, width: int) -> None:
        w = self.script
        with w.loop(0, window.rows, "ky") as a, w.loop(0, window.columns, "kx") as b:
            sums.add(self._tap(window, at, a, b, width))

    def _tap(self, window: _Window, at: Expr, a: Expr, b: Expr, width: int) -> Expr:
        pitch = self.code.pitch
        return self.script.load(self.x, window.corner + a * pitch[0] + b * pitch[1] + at, width)

    def _store(self, window: _Window, value: Expr, at: Expr, width: int) -> None:
        w, step = self.script, self.code.params[3]
        if self.code.scaling:
            scaler = Scaler(w, self.code.scaling, self.constants)
            value = scaler.stored([value], window.param + at * step, step, width)
        w.store(self.y, window.y_at + at, value, width)
