"""Copies, gathers and fills in TIR."""

from __future__ import annotations

from qir.backends.kernels.move import CopyCode, FillCode, FrameCode, GatherCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import Constants, Script, straight, width_of
from qir.backends.tvm.kernels.writer import Expr, splat

CARRIER = {1: "int8", 2: "int16", 4: "int32"}
"""What stands for elements of so many bytes: moving does not look at them."""


def emit_copy(code: CopyCode, symbol: str) -> PrimFunc:
    """`void symbol(x, y, begin, end)`."""
    w, dtype = Script(), CARRIER[code.item]
    x, y = w.pointer("x", dtype), w.pointer("y", dtype)
    steps = code.nest.steps
    lanes = straight(steps, width_of(code.vector_bytes, dtype))

    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):

        def row(at: Expr, width: int) -> None:
            value = w.take(x, x_at + at * steps[0], steps[0], width)
            w.store(y, y_at + at * steps[1], value, width)

        w.spans(code.nest.row, lanes, row)
    return w.finish(symbol)


def emit_gather(code: GatherCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, dtype = Script(), CARRIER[code.item]
    x = w.pointer("x", dtype)
    constants = Constants(w, code.fields)
    y = w.pointer("y", dtype)
    *index_steps, x_step, y_step = code.nest.steps
    by_table = any(index_steps)
    lanes = straight((2 if by_table else x_step, y_step), width_of(code.vector_bytes, dtype))

    def place(index: Expr, table: int) -> Expr:
        return constants.take("offsets", index + code.starts[table])

    with w.units() as unit, w.rows(code.nest, unit) as (*index, x_at, y_at):
        fixed = [place(at, k) for k, at in enumerate(index) if not index_steps[k]]
        base = w.let(sum(fixed, x_at + code.base))

        def row(at: Expr, width: int) -> None:
            inner = [place(i + at, k) for k, i in enumerate(index) if index_steps[k]]
            value = w.take(x, sum(inner, base + at * x_step), x_step, width)
            w.store(y, y_at + at * y_step, value, width)

        w.spans(code.nest.row, lanes, row)
    return w.finish(symbol)


def emit_fill(code: FillCode, symbol: str) -> PrimFunc:
    """`void symbol(y, begin, end)`."""
    w, dtype = Script(), CARRIER[code.item]
    y = w.pointer("y", dtype)
    step = code.nest.steps[0]
    lanes = straight((step,), width_of(code.vector_bytes, dtype))
    with w.units() as unit, w.rows(code.nest, unit) as (y_at,):
        value = _carried(code.value, code.item)
        w.spans(
            code.nest.row,
            lanes,
            lambda at, width: w.store(y, y_at + at * step, splat(value, dtype, width), width),
        )
    return w.finish(symbol)


def emit_frame(code: FrameCode, symbol: str) -> PrimFunc:
    """`void symbol(y, begin, end)`."""
    w, dtype = Script(), CARRIER[code.item]
    y = w.pointer("y", dtype)
    value, lanes = _carried(code.value, code.item), width_of(code.vector_bytes, dtype)

    def run(start: Expr, length: int) -> None:
        if length:
            w.spans(
                length,
                lanes,
                lambda at, width: w.store(y, start + at, splat(value, dtype, width), width),
            )

    with w.units() as unit:
        image = w.let(unit * tirx.IntImm("int32", code.pitch_n))
        run(image, code.head)
        if code.count and code.run:
            with w.steps(code.count, "row") as i:
                run(w.let(image + code.first + i * code.pitch), code.run)
        run(w.let(image + code.last), code.tail)
    return w.finish(symbol)


def _carried(value: int, item: int) -> int:
    """The value as a signed integer of that many bytes."""
    top = 1 << (8 * item - 1)
    return (value + top) % (2 * top) - top
