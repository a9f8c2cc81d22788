"""Table look-ups in TIR."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.kernels.lookup import ENTRIES, GatherMethod, LookupCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.writer import Expr, call, cast, cast_bits, splat

LANES = GatherMethod.PERMUTE.value // 2  # words of one vector


def emit_lookup(code: LookupCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w = Script()
    x = w.pointer("x", "uint8")
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.dtype)
    x_step, table_step, y_step = code.nest.steps

    with w.units() as unit:
        find = FINDERS[code.gather](w, constants) if code.gather in FINDERS else None

        def row(offsets: list[Expr], at: Expr, width: int) -> None:
            x_at, table_at, y_at = offsets
            value = w.load(x, x_at + at * x_step, width)
            if find is not None:
                w.store(y, y_at + at, cast_bits(find(w.let(value)), f"{code.dtype}x{width}"), width)
                return
            index = cast(value, "int32", 1) + (table_at + at * table_step) * ENTRIES
            w.store(y, y_at + at * y_step, constants.take("table", index))

        with w.rows(code.nest, unit) as offsets:
            w.spans(code.nest.row, code.gather.value, lambda at, width: row(offsets, at, width))
    return w.finish(symbol)


Finder = Callable[[Expr], Expr]


def _table(w: Script, constants: ConstantBlock, size: int) -> list[Expr]:
    """The table in vectors of `size` bytes."""
    return [w.let(constants.take("bytes", at, 1, size)) for at in range(0, ENTRIES, size)]


def _tbl(w: Script, constants: ConstantBlock) -> Finder:
    """Four tables of 64 entries; an index beyond its table finds 0."""
    table = _table(w, constants, 16)

    def find(value: Expr) -> Expr:
        entries = None
        for k in range(4):
            index = value - splat(64 * k, "uint8", 16) if k else value
            part = call(
                "llvm.aarch64.neon.tbl4.v16i8", "uint8x16", *table[4 * k : 4 * k + 4], index
            )
            entries = part if entries is None else tirx.bitwise_or(entries, part)
        return entries

    return find


def _vlut(w: Script, constants: ConstantBlock) -> Finder:
    """Each vlut finds the indices of one eighth of the table, and 0 for others."""
    words, name = "int32x32", "llvm.hexagon.V6.vlutvvb"
    table = [cast_bits(v, words) for v in _table(w, constants, 128)]

    def find(value: Expr) -> Expr:
        index = w.let(cast_bits(value, words))
        entries = call(f"{name}.128B", words, index, table[0], tirx.const(0, "int32"))
        for k in range(1, 8):
            eighth = tirx.const(k, "int32")
            entries = call(f"{name}.oracc.128B", words, entries, index, table[k // 4], eighth)
        return entries

    return find


def _permute(w: Script, constants: ConstantBlock) -> Finder:
    """64 look-ups: those of the even bytes, and those of the odd."""
    table = [cast_bits(v, f"uint16x{LANES}") for v in _table(w, constants, 2 * LANES)]
    quarters = [w.let(v) for v in table]

    def find(value: Expr) -> Expr:
        words = w.let(cast_bits(value, f"uint16x{LANES}"))
        even = _looked_up(w, tirx.bitwise_and(words, _word(255)), quarters)
        odd = _looked_up(w, tirx.shift_right(words, _word(8)), quarters)
        return tirx.bitwise_or(even, tirx.shift_left(odd, _word(8)))

    return find


FINDERS: dict[GatherMethod, Callable[[Script, ConstantBlock], Finder]] = {
    GatherMethod.TBL: _tbl,
    GatherMethod.VLUT: _vlut,
    GatherMethod.PERMUTE: _permute,
}
"""What finds a whole vector of entries, once the table is loaded."""


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
