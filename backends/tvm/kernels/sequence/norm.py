"""norm_fixed in TIR: sums over a row, then its elements."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.kernels.sequence.norm import NormCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    across,
    long,
    reciprocal_root,
    rounded,
)
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, clamp, splat
from qir.ir import rows
from qir.ir.ops.sequence.norm import UNIT_BITS


class _Norm:
    def __init__(self, code: NormCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.x)
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", code.y)
        self.size, (self.x_step, _, self.y_step) = code.nest.shape[-1], code.nest.steps
        both = (self.x_step, self.y_step)
        lanes = straight(both, width_of(code.vector_bytes, "int32")) if self.x_step else 1
        self.lanes = 1 << (min(lanes, self.size).bit_length() - 1)

    def build(self, symbol: str) -> PrimFunc:
        w = self.script
        with w.units() as unit, w.rows(self.code.nest, unit) as (x_at, _, y_at):
            mean = self._mean(x_at)
            squares = self._sum(lambda i, n: self._square(x_at, i, n, mean))
            total = w.let(squares + self.constants.take("epsilon"))
            root, h = reciprocal_root(w, self.constants, total)
            by = w.let(h + long(rows.ROOT_BITS - UNIT_BITS))
            body = self._element
            w.spans(
                self.size,
                self.lanes,
                lambda i, n: body(w.let(self._centred(x_at, i, n, mean)), root, by, (y_at, i, n)),
            )
        return w.finish(symbol)

    def _mean(self, x_at: Expr) -> Expr:
        """sum(x) / C in the units of centred elements; None without a mean."""
        w = self.script
        if self.code.fraction is None:
            return None
        total = self._sum(lambda i, n: cast(self._x(x_at, i, n), LONG, n))
        product = w.let(total * self.constants.take("mean", 0))
        return w.let(rounded(w, product, self.constants.take("mean", 1), 1))

    def _sum(self, term: Callable[[Expr, int], Expr]) -> Expr:
        """The sum of term(index, lanes), vectors of int64, over a row."""
        w, lanes = self.script, self.lanes
        acc = w.registers(1, LONG, lanes)
        acc[0] = splat(0, LONG, lanes)
        with w.steps(self.size // lanes, "at") as i:
            acc[0] = acc[0] + term(i * lanes, lanes)
        whole = across(w, lambda a, b: a + b, acc[0], lanes)
        rest = self.size % lanes
        if not rest:
            return whole
        one = w.registers(1, LONG, 1)
        one[0] = whole
        with w.steps(rest, "at") as i:
            one[0] = one[0] + term(i + (self.size - rest), 1)
        return w.let(one[0])

    def _square(self, x_at: Expr, i: Expr, lanes: int, mean: Expr) -> Expr:
        d = self.script.let(self._centred(x_at, i, lanes, mean))
        return d * d

    def _x(self, x_at: Expr, i: Expr, lanes: int) -> Expr:
        return self.script.load(self.x, x_at + i * self.x_step, lanes)

    def _centred(self, x_at: Expr, i: Expr, lanes: int, mean: Expr) -> Expr:
        """d, int64."""
        wide = cast(self._x(x_at, i, lanes), LONG, lanes)
        if mean is None:
            return wide
        assert self.code.fraction is not None
        return tirx.shift_left(wide, splat(self.code.fraction, LONG, lanes)) - spread(mean, lanes)

    def _element(self, d: Expr, root: Expr, by: Expr, at: tuple[Expr, Expr, int]) -> None:
        w, code, (y_at, i, lanes) = self.script, self.code, at
        product = w.let(d * spread(root, lanes))
        reach = 1 << UNIT_BITS
        u = w.let(rounded(w, product, spread(by, lanes), lanes))
        total = clamp(u, -reach, reach, LONG, lanes) * self.constants.take("mult", i, 1, lanes)
        if code.has_offset:
            total = total + self.constants.take("offset", i, 1, lanes)
        y = w.let(rounded(w, w.let(total), spread(self.constants.take("shift"), lanes), lanes))
        value = cast(clamp(y, code.low, code.high, LONG, lanes), code.y, lanes)
        w.store(self.y, y_at + i * self.y_step, value, lanes)


def emit_norm(code: NormCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    return _Norm(code).build(symbol)
