"""Table look-ups in TIR."""

from __future__ import annotations

from qir.backends.kernels.lookup import ENTRIES, TOGETHER, LookupCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import Constants, Script
from qir.backends.tvm.kernels.writer import Expr, call, cast, cast_bits, splat

LANES = TOGETHER // 2  # words of one vector


def emit_lookup(code: LookupCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w = Script()
    x = w.pointer("x", "uint8")
    constants = Constants(w, code.fields)
    y = w.pointer("y", code.dtype)
    x_step, table_step, y_step = code.nest.steps

    with w.units() as unit:
        quarters = []
        if code.permutes:
            quarters = [w.let(constants.take("words", LANES * k, 1, LANES)) for k in range(4)]

        def row(offsets: list[Expr], at: Expr, width: int) -> None:
            x_at, table_at, y_at = offsets
            value = w.load(x, x_at + at * x_step, width)
            if code.permutes:
                w.store(y, y_at + at, _permuted(w, value, quarters, code.dtype), width)
                return
            index = cast(value, "int32", 1) + (table_at + at * table_step) * ENTRIES
            w.store(y, y_at + at * y_step, constants.take("table", index))

        with w.rows(code.nest, unit) as offsets:
            lanes = TOGETHER if code.permutes else 1
            w.spans(code.nest.row, lanes, lambda at, width: row(offsets, at, width))
    return w.finish(symbol)


def _permuted(w: Script, value: Expr, quarters: list[Expr], dtype: str) -> Expr:
    """64 look-ups: those of the even bytes, and those of the odd."""
    words = w.let(cast_bits(value, f"uint16x{LANES}"))
    even = _looked_up(w, tirx.bitwise_and(words, _word(255)), quarters)
    odd = _looked_up(w, tirx.shift_right(words, _word(8)), quarters)
    both = tirx.bitwise_or(even, tirx.shift_left(odd, _word(8)))
    return cast_bits(both, f"{dtype}x{TOGETHER}")


def _looked_up(w: Script, index: Expr, quarters: list[Expr]) -> Expr:
    """table[index]: vpermi2w takes six bits of its word's index, a select one, a shift the last."""
    index = w.let(index)
    place = w.let(tirx.shift_right(index, _word(1)))
    name, lanes = "llvm.x86.avx512.vpermi2var.hi.512", f"uint16x{LANES}"
    low, high = (call(name, lanes, quarters[k], place, quarters[k + 1]) for k in (0, 2))
    word = tirx.Select(tirx.LT(index, _word(ENTRIES // 2)), low, high)
    byte = tirx.shift_left(tirx.bitwise_and(index, _word(1)), _word(3))
    return tirx.bitwise_and(tirx.shift_right(word, byte), _word(255))


def _word(value: int) -> Expr:
    return splat(value, "uint16", LANES)
