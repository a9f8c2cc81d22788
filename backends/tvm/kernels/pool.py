"""Pooling in TIR: channels side by side in vectors."""

from __future__ import annotations

from qir.backends.kernels.plane import Plane
from qir.backends.kernels.pool import MaxPoolCode, SumPoolCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.scaling import Scaler
from qir.backends.tvm.kernels.script import Constants, Script, cast, width_of
from qir.backends.tvm.kernels.writer import Expr, splat

UNROLLED_TAPS = 32  # windows this small have no loop


def place(plane: Plane, image: Expr, row: Expr, column: Expr) -> Expr:
    """The offset of a pixel."""
    return image * plane.pitch_n + row * plane.pitch_y + column * plane.pitch_x


def emit_max_pool(code: MaxPoolCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, (ky, kx) = Script(), code.kernel
    x = w.pointer("x", code.x.dtype)
    constants = Constants(w, code.fields)
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
                if ky * kx <= UNROLLED_TAPS:
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
    w = Script()
    x = w.pointer("x", code.x.dtype)
    constants = Constants(w, code.fields)
    y = w.pointer("y", code.y.dtype)
    lanes = width_of(code.vector_bytes, "int32")
    lanes = lanes if code.params[3] in (0, 1) else 1
    with w.units() as unit:
        image, row = w.split(unit, code.y.height)
        rows = constants.take("pool_rows", row) if code.clips else code.kernel[0]
        above = w.let(image * code.x.pitch_n + constants.take("pool_row", row))
        with w.steps(code.y.width, "column") as column:
            columns = constants.take("pool_columns", column) if code.clips else code.kernel[1]
            corner = w.let(above + constants.take("pool_column", column))
            count = w.let(constants.take("pool_zero") * rows * columns)
            y_at = w.let(place(code.y, image, row, column))
            param = sum(i * s for i, s in zip((image, row, column), code.params, strict=False))

            def channels(at: Expr, width: int) -> None:
                acc = w.registers(1, "int32", width)
                acc[0] = splat(0, "int32", width)
                with w.loop(0, w.let(rows), "ky") as a, w.loop(0, w.let(columns), "kx") as b:
                    from_x = corner + a * code.pitch[0] + b * code.pitch[1] + at
                    acc[0] = acc[0] + cast(w.load(x, from_x, width), "int32", width)
                value = acc[0] - (count if width == 1 else tirx.Broadcast(count, width))
                if code.scaling:
                    scaler = Scaler(w, code.scaling, constants)
                    value = scaler.stored(
                        [w.let(value)], param + at * code.params[3], code.params[3], width
                    )
                w.store(y, y_at + at, value, width)

            w.spans(code.y.channels, lanes, channels)
    return w.finish(symbol)
