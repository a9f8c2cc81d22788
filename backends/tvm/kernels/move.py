"""Copies, gathers and fills in TIR."""

from __future__ import annotations

from qir.backends.kernels.move import CopyCode, FillCode, FrameCode, GatherCode, Route
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.writer import Expr, shuffle, splat

CARRIER = {1: "int8", 2: "int16", 4: "int32"}
"""What stands for elements of so many bytes: moving does not look at them."""


def emit_copy(code: CopyCode, symbol: str) -> PrimFunc:
    """`void symbol(x, y, begin, end)`."""
    return _Copy(code).build(symbol)


class _Copy:
    def __init__(self, code: CopyCode) -> None:
        self.code, self.script = code, Script()
        dtype = CARRIER[code.item]
        self.x, self.y = self.script.pointer("x", dtype), self.script.pointer("y", dtype)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        routes = {Route.WEAVE: self._weave, Route.UNWEAVE: self._unweave, Route.TILES: self._tiles}
        if code.route is Route.ROWS:
            with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
                self._row(x_at, y_at)
            return w.finish(symbol)
        with w.units() as unit, w.rows(code.nest, unit, inner=2) as (x_at, y_at):
            routes[code.route](x_at, y_at)
        return w.finish(symbol)

    @property
    def _near(self) -> int:
        """How many elements of the axis before the last to take."""
        nest = self.code.nest
        return nest.piece if nest.cut == len(nest.shape) - 2 else nest.shape[-2]

    def _row(self, x_at: Expr, y_at: Expr) -> None:
        w, (x_step, y_step) = self.script, self.code.nest.steps

        def piece(at: Expr, width: int) -> None:
            value = w.take(self.x, x_at + at * x_step, x_step, width)
            w.store(self.y, y_at + at * y_step, value, width)

        w.spans(self.code.nest.row, straight((x_step, y_step), self.code.lanes), piece)

    def _weave(self, x_at: Expr, y_at: Expr) -> None:
        """Vectors from each of a few places of x become as many vectors of y."""
        w, count, step = self.script, self.code.nest.shape[-1], self.code.nest.steps[0]

        def piece(at: Expr, width: int) -> None:
            parts = [w.let(w.load(self.x, x_at + at + k * step, width)) for k in range(count)]
            for v in range(count):
                places = range(v * width, (v + 1) * width)
                picks = [e % count * width + e // count for e in places]
                w.store(self.y, y_at + at * count + v * width, shuffle(parts, picks), width)

        w.spans(self._near, self.code.lanes, piece)

    def _unweave(self, x_at: Expr, y_at: Expr) -> None:
        """A few vectors of x become one for each of as many places of y."""
        w, count, near = self.script, self._near, self.code.nest.strides[1][-2]

        def piece(at: Expr, width: int) -> None:
            parts = [
                w.let(w.load(self.x, x_at + at * count + k * width, width)) for k in range(count)
            ]
            for v in range(count):
                picks = [e * count + v for e in range(width)]
                w.store(self.y, y_at + at + v * near, shuffle(parts, picks), width)

        w.spans(self.code.nest.shape[-1], self.code.lanes, piece)

    def _tiles(self, x_at: Expr, y_at: Expr) -> None:
        """Squares of lanes x lanes: rows of x become columns of y."""
        w, code = self.script, self.code
        x_far, y_near = code.nest.steps[0], code.nest.strides[1][-2]

        def tile(near: Expr, far: Expr, lanes: int) -> None:
            from_x, to_y = w.let(x_at + near + far * x_far), w.let(y_at + near * y_near + far)
            rows = [w.load(self.x, from_x + i * x_far, lanes) for i in range(lanes)]
            for i, row in enumerate(_transpose(w, [w.let(r) for r in rows])):
                w.store(self.y, to_y + i * y_near, row, lanes)

        def column(near: Expr, lanes: int) -> None:
            w.spans(code.nest.shape[-1], lanes, lambda far, _: tile(near, far, lanes))

        w.spans(self._near, code.lanes, column)


def _transpose(w: Script, rows: list[Expr]) -> list[Expr]:
    """The transpose of a square: log2(n) rounds of interleaving rows i and i + n / 2."""
    half = len(rows) // 2
    size = len(rows)
    low = [p for lane in range(half) for p in (lane, size + lane)]
    high = [p + half for p in low]
    for _ in range(size.bit_length() - 1):
        pairs = [(rows[i], rows[i + half]) for i in range(half)]
        rows = [w.let(shuffle(pair, picks)) for pair in pairs for picks in (low, high)]
    return rows


def emit_gather(code: GatherCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, dtype = Script(), CARRIER[code.item]
    x = w.pointer("x", dtype)
    constants = ConstantBlock(w, code.fields)
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
