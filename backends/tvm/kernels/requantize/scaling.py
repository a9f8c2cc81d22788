"""Sums to stored values: the arithmetic of qir.backends.kernels.requantize.scaling in TIR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qir.backends.kernels.requantize.scaling import Arithmetic, Scaling
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.writer import Expr, cast, cast_bits, clamp, shuffle, splat
from qir.ir.fixed import Rounding

Field = Callable[[str], Expr]

PAIRED = 8  # from so many lanes on, machines multiply every second 32-bit lane into 64 bits


@dataclass(frozen=True)
class Scaler:
    """One scaling in one function."""

    script: Script
    code: Scaling
    constants: ConstantBlock

    def stored(self, terms: Sequence[Expr], at: Expr, step: int, lanes: int) -> Expr:
        """Values of Y's dtype from int32 lanes of every term; their constants begin at `at`."""
        code = self.code
        if code.count == 1:
            at, step = 0, 0

        def field(name: str) -> Expr:
            return self.constants.take(name, at, step, lanes)

        ways = {
            Arithmetic.NARROW: self._narrow,
            Arithmetic.HIGH: self._high,
            Arithmetic.WIDE: self._wide,
        }
        value, dtype = ways[code.arithmetic](terms, field, lanes)
        if code.zero:
            value = value + cast(field("zero"), dtype, lanes)
        if code.clamps or dtype == "int64":
            value = clamp(self.script.let(value), code.low, code.high, dtype, lanes)
        return cast(value, code.dtype, lanes)

    def _narrow(self, terms: Sequence[Expr], field: Field, lanes: int) -> tuple[Expr, str]:
        low, high = field("add_low"), field("add_high")
        for i, x in enumerate(terms):
            x = self.script.let(x)
            low = low + x * cast(field(f"low{i}"), "int32", lanes)
            high = high + x * cast(field(f"high{i}"), "int32", lanes)
        carried = high + tirx.shift_right(low, splat(16, "int32", lanes))
        return tirx.shift_right(carried, field("after")), "int32"

    def _high(self, terms: Sequence[Expr], field: Field, lanes: int) -> tuple[Expr, str]:
        mults = [field(f"mult{i}") for i in range(len(terms))]
        add = field("add")
        if lanes < PAIRED:
            total = _products(terms, mults, lanes) + add
            top = cast(tirx.shift_right(total, splat(32, "int64", lanes)), "int32", lanes)
        else:
            top = self._paired(terms, mults, add, lanes)
        return tirx.shift_right(top, field("after")), "int32"

    def _paired(self, terms: Sequence[Expr], mults: Sequence[Expr], add: Expr, lanes: int) -> Expr:
        """The high words of the even and of the odd lanes' sums, each in its own lane again."""
        half, words, let = lanes // 2, [], self.script.let
        kind = f"int64x{half}"
        pairs = [[let(cast_bits(let(v), kind)) for v in vs] for vs in (terms, mults)]
        by, addend = splat(32, "int64", half), let(add)
        for odd in (0, 1):
            total = shuffle([addend], range(odd, lanes, 2))
            for x, mult in zip(*pairs, strict=True):
                low = [v if odd else tirx.shift_left(v, by) for v in (x, mult)]
                total = total + tirx.shift_right(low[0], by) * tirx.shift_right(low[1], by)
            words.append(cast_bits(total, f"int32x{lanes}"))
        return shuffle(words, [p for i in range(1, lanes, 2) for p in (i, lanes + i)])

    def _wide(self, terms: Sequence[Expr], field: Field, lanes: int) -> tuple[Expr, str]:
        total, let = None, self.script.let
        for i, x in enumerate(terms):
            centred = cast(x, "int64", lanes) - cast(field(f"center{i}"), "int64", lanes)
            product = centred * cast(field(f"mult{i}"), "int64", lanes)
            total = product if total is None else total + product
        shift, total, one = let(field("shift")), let(total), splat(1, "int64", lanes)
        if self.code.rounding is Rounding.FLOOR:
            return tirx.shift_right(total, shift), "int64"
        half = let(tirx.shift_left(one, shift - one))
        up = let(tirx.shift_right(total + half, shift))
        if self.code.rounding is Rounding.HALF_UP:
            return up, "int64"
        rest = tirx.bitwise_and(total, half + half - one)
        if self.code.rounding is Rounding.HALF_EVEN:
            odd = tirx.bitwise_and(up, one)
        else:  # the sign bit
            odd = tirx.bitwise_and(tirx.shift_right(total, splat(63, "int64", lanes)), one)
        tie = tirx.Select(tirx.EQ(rest, half), odd, splat(0, "int64", lanes))
        return up - tie, "int64"


def _products(terms: Sequence[Expr], mults: Sequence[Expr], lanes: int) -> Expr:
    """The sum of 64-bit products."""
    wide = [
        cast(x, "int64", lanes) * cast(m, "int64", lanes) for x, m in zip(terms, mults, strict=True)
    ]
    return sum(wide[1:], wide[0])
