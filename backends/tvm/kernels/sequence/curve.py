"""interpolate in TIR."""

from __future__ import annotations

from collections.abc import Sequence

from qir.backends.kernels.sequence.curve import BLOCK, CurveRows, InterpolateCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.writer import Expr, cast, splat
from qir.ir.ops.sequence.curve import SEGMENT_BITS

BITS = 16 - SEGMENT_BITS  # of the place on a line


class Curve:
    """A function of elements of x, a pointer that is asked for first."""

    def __init__(self, w: Script, source: CurveRows, step: int, x: Expr = None) -> None:
        self.w, self.source, self.step = w, source, step
        self.x = w.pointer("x", "int16") if x is None else x

    @property
    def is_looked_up(self) -> bool:
        return self.lanes > 1

    def start(self, offsets: Sequence[Expr], constants: ConstantBlock, lanes: int) -> None:
        """A row. With vectors, what a block of it looks up is on the stack."""
        self.at, self.constants, self.lanes = offsets[0], constants, lanes
        if lanes > 1:
            self.places, self.found = (self.w.scratch(BLOCK, "int32") for _ in range(2))

    def ahead(self, i: Expr, count: int) -> None:
        """Look up the elements i .. i + count - 1, a block."""
        w = self.w
        if self.lanes == 1:
            return
        self.first, width = i, min(self.lanes, count)
        for c in range(0, count, width):
            at = tirx.shift_right(self._x(i + c, width), splat(BITS, "int32", width))
            w.store(self.places, c, at, width)
        with w.steps(count) as j:
            w.store(self.found, j, self.constants.take("lines", w.let(w.load(self.places, j))))

    def element(self, i: Expr, lanes: int, inside: int = 0) -> Expr:
        """Some elements in int32, those from `inside` on of the block that was looked up."""
        w = self.w
        x = self._x(i, lanes)
        if self.lanes == 1:
            line = self.constants.take("lines", w.let(tirx.shift_right(x, splat(BITS, "int32", 1))))
        else:
            line = w.load(self.found, inside, lanes)
        line, by = w.let(line), splat(16, "int32", lanes)
        here = w.let(tirx.shift_right(tirx.shift_left(line, by), by))
        f = tirx.bitwise_and(x, splat((1 << BITS) - 1, "int32", lanes))
        along = f * (tirx.shift_right(line, by) - here) + splat(1 << (BITS - 1), "int32", lanes)
        value = here + tirx.shift_right(w.let(along), splat(BITS, "int32", lanes))
        if self.source.offset:
            value = value + splat(self.source.offset, "int32", lanes)
        return w.let(value)

    def _x(self, i: Expr, lanes: int) -> Expr:
        """x + 2**15."""
        found = cast(self.w.load(self.x, self.at + i * self.step, lanes), "int32", lanes)
        return self.w.let(found + splat(1 << 15, "int32", lanes))


def emit_interpolate(code: InterpolateCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, steps, row = Script(), code.nest.steps, code.nest.row
    source = Curve(w, code.source, steps[0])
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.source.dtype)
    lanes = straight(steps, width_of(code.vector_bytes, "int32"))
    lanes = lanes if steps[0] and row >= BLOCK else 1

    def block(y_at: Expr, i: Expr, count: int) -> None:
        source.ahead(i, count)
        for c in range(0, count, lanes):
            value = cast(source.element(i + c, lanes, c), code.source.dtype, lanes)
            w.store(y, y_at + (i + c) * steps[1], value, lanes)

    with w.units() as unit, w.rows(code.nest, unit) as offsets:
        source.start(offsets, constants, lanes)
        w.spans(row, BLOCK if lanes > 1 else 1, lambda i, n: block(offsets[1], i, n))
    return w.finish(symbol)
