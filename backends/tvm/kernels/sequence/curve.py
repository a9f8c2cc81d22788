"""interpolate in TIR."""

from __future__ import annotations

from qir.backends.kernels.sequence.curve import InterpolateCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import Constants, Script
from qir.backends.tvm.kernels.sequence.arithmetic import word
from qir.backends.tvm.kernels.writer import Expr, cast
from qir.ir.ops.sequence.curve import SEGMENT_BITS

BITS = 16 - SEGMENT_BITS  # of the place on a line


def emit_interpolate(code: InterpolateCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w = Script()
    x = w.pointer("x", "int16")
    constants = Constants(w, code.fields)
    y = w.pointer("y", code.y)
    x_step, y_step = code.nest.steps

    def element(x_at: Expr, y_at: Expr) -> None:
        at = w.let(cast(w.load(x, x_at), "int32", 1) + word(1 << 15))
        i = w.let(tirx.shift_right(at, word(BITS)))
        f = tirx.bitwise_and(at, word((1 << BITS) - 1))
        here = w.let(constants.take("table", i))
        line = w.let(f * (constants.take("table", i + 1) - here) + word(1 << (BITS - 1)))
        w.store(y, y_at, cast(here + tirx.shift_right(line, word(BITS)), code.y, 1))

    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
        w.spans(code.nest.row, 1, lambda i, _: element(x_at + i * x_step, y_at + i * y_step))
    return w.finish(symbol)
