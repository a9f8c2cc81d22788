"""interpolate in TIR."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.kernels.sequence.curve import BLOCK, CurveRows, InterpolateCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import word
from qir.backends.tvm.kernels.writer import Expr, cast, splat
from qir.ir.ops.sequence.curve import SEGMENT_BITS

BITS = 16 - SEGMENT_BITS  # of the place on a line


class Curve:
    """A function of elements of x, a pointer that is asked for first.

    Scalars fetch what is in the table, an entry and the next in one word, for many elements; then
    vectors do the rest.
    """

    def __init__(self, w: Script, source: CurveRows, step: int, x: Expr = None) -> None:
        self.w, self.source, self.step = w, source, step
        self.x = w.pointer("x", "int16") if x is None else x

    def start(self, offsets: Sequence[Expr], constants: ConstantBlock, lanes: int) -> None:
        """A row."""
        self.at, self.constants, self.lanes = offsets[0], constants, lanes

    def ahead(self, first: Expr, count: int) -> None:
        """Look up the elements first .. first + count - 1, before any of them is asked for."""
        w = self.w
        if self.lanes == 1:
            return
        self.first, self.lines = first, w.scratch(count, "int32")
        places = w.scratch(count, "int32")

        def place(i: Expr, width: int) -> None:
            at = tirx.shift_right(self._x(first + i, width), splat(BITS, "int32", width))
            w.store(places, i, at + splat(1 << (SEGMENT_BITS - 1), "int32", width), width)

        w.spans(count, self.lanes, place)
        with w.steps(count) as i:
            w.store(self.lines, i, self.constants.take("lines", w.let(w.load(places, i))))

    def element(self, i: Expr, lanes: int) -> Expr:
        """Some elements in int32."""
        w = self.w
        line = self._line(i) if self.lanes == 1 else w.load(self.lines, i - self.first, lanes)
        line, by = w.let(line), splat(16, "int32", lanes)
        here = w.let(tirx.shift_right(tirx.shift_left(line, by), by))
        f = tirx.bitwise_and(self._x(i, lanes), splat((1 << BITS) - 1, "int32", lanes))
        along = f * (tirx.shift_right(line, by) - here) + splat(1 << (BITS - 1), "int32", lanes)
        value = here + tirx.shift_right(w.let(along), splat(BITS, "int32", lanes))
        if self.source.offset:
            value = value + splat(self.source.offset, "int32", lanes)
        return w.let(value)

    def _line(self, i: Expr) -> Expr:
        at = tirx.shift_right(self._x(i, 1), word(BITS)) + word(1 << (SEGMENT_BITS - 1))
        return self.constants.take("lines", self.w.let(at))

    def _x(self, i: Expr, lanes: int) -> Expr:
        return cast(self.w.load(self.x, self.at + i * self.step, lanes), "int32", lanes)


def emit_interpolate(code: InterpolateCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, steps, row = Script(), code.nest.steps, code.nest.row
    source = Curve(w, code.source, steps[0])
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.source.dtype)
    lanes = straight(steps, width_of(code.vector_bytes, "int32"))
    lanes = min(lanes, 1 << (row.bit_length() - 1)) if steps[0] else 1

    def store(y_at: Expr, i: Expr, width: int) -> None:
        value = cast(source.element(i, width), code.source.dtype, width)
        w.store(y, y_at + i * steps[1], value, width)

    def block(y_at: Expr, first: Expr, count: int) -> None:
        source.ahead(first, count)
        w.spans(count, lanes, lambda i, width: store(y_at, first + i, width))

    with w.units() as unit, w.rows(code.nest, unit) as offsets:
        source.start(offsets, constants, lanes)
        w.spans(row, BLOCK, lambda first, count: block(offsets[1], first, count))
    return w.finish(symbol)
