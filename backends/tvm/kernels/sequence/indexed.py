"""take, slice_rows and write_rows in TIR."""

from __future__ import annotations

from qir.backends.kernels.sequence.indexed import CopyRowsCode, TakeCode
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.kernels.script import Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import LONG
from qir.backends.tvm.kernels.writer import Expr, cast, clamp


def clipped_index(w: Script, buffer: Expr, at: Expr, last: int) -> Expr:
    """An integer of any dtype, clipped to 0 .. last, as int32."""
    index = w.let(cast(w.load(buffer, at), LONG, 1))
    return w.let(cast(clamp(index, 0, last, LONG, 1), "int32", 1))


def emit_take(code: TakeCode, symbol: str) -> PrimFunc:
    """`void symbol(table, index, y, begin, end)`."""
    w = Script()
    table = w.operand("table", code.dtype, code.is_constant)
    index, y = w.pointer("index", code.index), w.pointer("y", code.dtype)
    table_step, index_step, y_step = code.nest.steps
    is_row = index_step == 0 and table_step == 1
    lanes = straight((table_step, y_step), width_of(code.vector_bytes, code.dtype)) if is_row else 1

    def element(offsets: list[Expr], i: Expr, width: int) -> None:
        table_at, index_at, y_at = offsets
        row = clipped_index(w, index, index_at + i * index_step, code.rows - 1)
        elements = w.load(table, table_at + row * code.pitch + i * table_step, width)
        w.store(y, y_at + i * y_step, elements, width)

    with w.units() as unit, w.rows(code.nest, unit) as offsets:
        w.spans(code.nest.row, lanes, lambda i, width: element(offsets, i, width))
    return w.finish(symbol)


def emit_copy_rows(code: CopyRowsCode, symbol: str) -> PrimFunc:
    """`void symbol(x, start, y, begin, end)`."""
    w = Script()
    x = w.operand("x", code.dtype, code.is_constant)
    start = w.pointer("start", code.start)
    y = w.pointer("y", code.dtype)
    x_step, y_step = code.nest.steps
    is_row = x_step == 1
    lanes = straight((x_step, y_step), width_of(code.vector_bytes, code.dtype)) if is_row else 1

    def element(x_at: Expr, y_at: Expr, width: int) -> None:
        w.store(y, y_at, w.load(x, x_at, width), width)

    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
        at = clipped_index(w, start, 0, code.last)
        x_first, y_first = w.let(x_at + at * code.x_pitch), w.let(y_at + at * code.y_pitch)
        w.spans(
            code.nest.row,
            lanes,
            lambda i, n: element(x_first + i * x_step, y_first + i * y_step, n),
        )
    return w.finish(symbol)
