"""Bilinear resizing in TIR, vectorized over channels."""

from __future__ import annotations

from qir.backends.kernels.bilinear import BilinearCode
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.kernels.pool import place
from qir.backends.tvm.kernels.requantize.scaling import Scaler
from qir.backends.tvm.kernels.script import ConstantBlock, Script, width_of
from qir.backends.tvm.kernels.sums import dot, spread
from qir.backends.tvm.kernels.writer import Expr, cast


def emit_bilinear(code: BilinearCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w = Script()
    x = w.pointer("x", code.x.dtype)
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y.dtype)
    lanes = width_of(code.vector_bytes, "int32") if code.params[3] in (0, 1) else 1

    with w.units() as unit:
        image, row = w.split(unit, code.y.height)
        above = [
            w.let(image * code.x.pitch_n + constants.take("rows", row * 2 + a)) for a in (0, 1)
        ]
        u = [w.let(cast(constants.take("u", row * 2 + a), "int32", 1)) for a in (0, 1)]
        center = w.let(constants.take("center"))
        with w.steps(code.y.width, "column") as column:
            across = [w.let(constants.take("columns", column * 2 + b)) for b in (0, 1)]
            v = [w.let(cast(constants.take("v", column * 2 + b), "int32", 1)) for b in (0, 1)]
            y_at = w.let(place(code.y, image, row, column))
            param = dot((image, row, column), code.params)

            def channels(at: Expr, width: int) -> None:
                sides = []
                for b in (0, 1):
                    taps = [w.load(x, above[a] + across[b] + at, width) for a in (0, 1)]
                    down = _weighted([cast(t, "int32", width) for t in taps], u, width)
                    sides.append(down - spread(center, width))
                value = w.let(_weighted(sides, v, width))
                if code.scaling:
                    scaler = Scaler(w, code.scaling, constants)
                    value = scaler.stored(
                        [value], param + at * code.params[3], code.params[3], width
                    )
                w.store(y, y_at + at, value, width)

            w.spans(code.y.channels, lanes, channels)
    return w.finish(symbol)


def _weighted(pair: list[Expr], weights: list[Expr], width: int) -> Expr:
    return pair[0] * spread(weights[0], width) + pair[1] * spread(weights[1], width)
