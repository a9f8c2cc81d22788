"""within and positions in TIR."""

from __future__ import annotations

from qir.backends.kernels.sequence.ids import PositionsCode, WithinCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import Script
from qir.backends.tvm.kernels.sequence.arithmetic import LONG, long, word
from qir.backends.tvm.kernels.writer import Expr, cast


def emit_within(code: WithinCode, symbol: str) -> PrimFunc:
    """`void symbol(x, y, begin, end)`."""
    w = Script()
    x, y = w.pointer("x", code.x), w.pointer("y", "uint8")
    x_step, y_step = code.nest.steps
    yes, no = (word(int(is_inside ^ code.outside)) for is_inside in (True, False))

    def element(x_at: Expr, y_at: Expr) -> None:
        number = w.let(cast(w.load(x, x_at), LONG, 1))
        not_above = w.let(tirx.Select(tirx.GE(long(code.high), number), yes, no))
        inside = w.let(tirx.Select(tirx.GE(number, long(code.low)), not_above, no))
        w.store(y, y_at, cast(inside, "uint8", 1))

    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
        w.spans(code.nest.row, 1, lambda i, _: element(x_at + i * x_step, y_at + i * y_step))
    return w.finish(symbol)


def emit_positions(code: PositionsCode, symbol: str) -> PrimFunc:
    """`void symbol(bits, y, begin, end)`."""
    w = Script()
    bits, y = w.pointer("bits", "uint8"), w.pointer("y", "int32")
    x_step, y_step = code.nest.steps
    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
        count = w.registers(1, "int32", 1)
        count[0] = word(code.first - 1)
        with w.steps(code.nest.shape[-1], "i") as i:
            bit = w.let(cast(w.load(bits, x_at + i * x_step), "int32", 1))
            count[0] = count[0] + bit
            position = w.let(count[0])
            if code.hidden is not None:
                position = tirx.Select(tirx.EQ(bit, word(1)), position, word(code.hidden))
            w.store(y, y_at + i * y_step, position)
    return w.finish(symbol)
