"""norm_fixed in TIR: sums over a row, then its elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qir.backends.kernels.sequence.norm import NormCode, NormRows
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.longs import Longs, Widening, widening
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    across,
    long,
    reciprocal_root,
    rounded,
    word,
)
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, clamp, splat
from qir.ir.ops.sequence.norm import UNIT_BITS


class Norm:
    """The elements of rows of x, a pointer that is asked for first."""

    def __init__(
        self, w: Script, source: NormRows, size: int, steps: Sequence[int], in_pairs: bool
    ) -> None:
        self.w, self.source, self.size, self.step = w, source, size, steps[0]
        self.in_pairs = in_pairs
        self.x = w.pointer("x", source.x)

    def start(self, offsets: Sequence[Expr], constants: ConstantBlock, lanes: int) -> None:
        """The sums of a row, and its root."""
        w, self.constants = self.w, constants
        self.at, self.lanes = offsets[0], lanes
        self.mean = self._mean()
        total = w.let(self._squares() + constants.take("epsilon"))
        root, h = reciprocal_root(w, constants, total)
        self.root = w.let(cast(root, "int32", 1))
        # d is shorter than its row: shifted by what the rounding shift lacks to 32, it fits 32 bits
        self.left_shift = w.let(word(30) - cast(h, "int32", 1))

    def ahead(self, first: Expr, count: int) -> None:
        """Nothing is looked up."""

    def element(self, i: Expr, lanes: int) -> Expr:
        """Some elements as they are stored, in int32."""
        w, source = self.w, self.source
        longs = widening(w, lanes, self.in_pairs)
        d = w.let(tirx.shift_left(self._centred(i, lanes), spread(self.left_shift, lanes)))
        half = longs.broadcast(long(1 << 31))
        reach = 1 << UNIT_BITS
        root = longs.uniform(w.let(spread(self.root, lanes)))
        u = longs.high_product(longs.signed(d), root, half)
        u = w.let(clamp(u, -reach, reach, "int32", lanes))
        if source.left_shift is None:
            return self._long_element(u, i, lanes)
        if source.left_shift:
            u = w.let(tirx.shift_left(u, splat(source.left_shift, "int32", lanes)))
        right = self.constants.take("shift")
        if source.has_offset:
            more = longs.unsigned(self.constants.take("offset_low", i, 1, lanes))
        else:
            more = longs.broadcast(w.let(tirx.shift_left(long(1 << 31), right)))
        mult = longs.signed(self.constants.take("mult", i, 1, lanes))
        y = longs.high_product(longs.signed(u), mult, more)
        if source.has_offset:
            y = y + self.constants.take("offset", i, 1, lanes)
        by = spread(w.let(cast(right, "int32", 1)), lanes)
        y = w.let(tirx.shift_right(w.let(y), by))
        return clamp(y, source.low, source.high, "int32", lanes)

    def _long_element(self, u: Expr, i: Expr, lanes: int) -> Expr:
        w, source = self.w, self.source
        total = cast(u, LONG, lanes) * self.constants.take("mult", i, 1, lanes)
        if source.has_offset:
            total = total + self.constants.take("offset", i, 1, lanes)
        shift = spread(self.constants.take("shift"), lanes)
        y = w.let(rounded(w, w.let(total), shift, lanes))
        return cast(clamp(y, source.low, source.high, LONG, lanes), "int32", lanes)

    def _mean(self) -> Expr:
        """sum(x) / C in the units of centred elements, int32; None without a mean."""
        w, source = self.w, self.source
        if source.fraction is None:
            return None
        if source.is_short:
            total = cast(self._short_sum(), LONG, 1)
        else:
            total = self._sum(self._widened)
        product = w.let(total * self.constants.take("mean", 0))
        return w.let(cast(rounded(w, product, self.constants.take("mean", 1), 1), "int32", 1))

    def _widened(self, i: Expr, lanes: int) -> Longs:
        return widening(self.w, lanes, self.in_pairs).signed(self.w.let(self._x(i, lanes)))

    def _short_sum(self) -> Expr:
        w, lanes = self.w, self.lanes
        acc = w.registers(1, "int32", lanes)
        acc[0] = splat(0, "int32", lanes)
        with w.steps(self.size // lanes, "at") as i:
            acc[0] = acc[0] + self._x(i * lanes, lanes)
        total = across(w, lambda a, b: a + b, acc[0], lanes)
        for i in range(self.size - self.size % lanes, self.size):
            total = total + self._x(i, 1)
        return w.let(total)

    def _squares(self) -> Expr:
        def square(i: Expr, lanes: int) -> Longs:
            longs = widening(self.w, lanes, self.in_pairs)
            d = longs.signed(self.w.let(self._centred(i, lanes)))
            return longs.product(d, d)

        return self._sum(square)

    def _sum(self, terms: Callable[[Expr, int], Longs]) -> Expr:
        """The sum of terms(index, lanes) over a row, int64."""
        w, lanes, rest = self.w, self.lanes, self.size % self.lanes
        longs: Widening = widening(w, lanes, self.in_pairs)
        acc = w.registers(longs.parts, LONG, longs.count)
        for p in range(longs.parts):
            acc[p] = splat(0, LONG, longs.count)
        with w.steps(self.size // lanes, "at") as i:
            for p, term in enumerate(terms(i * lanes, lanes)):
                acc[p] = acc[p] + term
        lane_sums = w.let(sum((acc[p] for p in range(1, longs.parts)), acc[0]))
        total = across(w, lambda a, b: a + b, lane_sums, longs.count)
        if not rest:
            return total
        one = w.registers(1, LONG, 1)
        one[0] = total
        with w.steps(rest, "at") as i:
            one[0] = one[0] + terms(i + (self.size - rest), 1)[0]
        return w.let(one[0])

    def _x(self, i: Expr, lanes: int) -> Expr:
        return cast(self.w.load(self.x, self.at + i * self.step, lanes), "int32", lanes)

    def _centred(self, i: Expr, lanes: int) -> Expr:
        """d, which fits 32 bits, since the sum of its squares fits 62."""
        x = self._x(i, lanes)
        if self.mean is None:
            return x
        raised = tirx.shift_left(x, splat(self.source.fraction or 0, "int32", lanes))
        return raised - spread(self.mean, lanes)


def emit_norm(code: NormCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w, size = Script(code.vector_bytes > 0), code.nest.shape[-1]
    source = Norm(w, code.source, size, code.nest.steps, code.in_pairs)
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.source.dtype)
    steps = code.nest.steps
    lanes = straight(steps, width_of(code.vector_bytes, "int32")) if steps[0] else 1
    lanes = 1 << (min(lanes, size).bit_length() - 1)

    def store(at: Expr, i: Expr, width: int) -> None:
        value = cast(source.element(i, width), code.source.dtype, width)
        w.store(y, at + i * steps[1], value, width)

    with w.units() as unit, w.rows(code.nest, unit) as offsets:
        source.start(offsets, constants, lanes)
        w.spans(size, lanes, lambda i, width: store(offsets[1], i, width))
    return w.finish(symbol)
