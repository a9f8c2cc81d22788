"""The fixed-point arithmetic of rows in TIR: qir.ir.rows, in scalars and vectors of int64."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, Writer, cast, shuffle, splat
from qir.ir import rows

LONG = "int64"


def word(value: int) -> Expr:
    return tirx.const(value, "int32")


def long(value: int) -> Expr:
    return tirx.const(value, LONG)


def mantissa(scale: Expr) -> Expr:
    """a of a row scale, int32."""
    return tirx.bitwise_and(scale, word(255))


def exponent(scale: Expr) -> Expr:
    """e of a row scale, int32."""
    return tirx.shift_right(scale, word(8))


def bit_length(w: Script, x: Expr, bits: int) -> Expr:
    """The bits of 1 <= x < 2**bits, int64: by halves where zeros are not counted."""
    if w.counts_zeros:
        return w.let(long(64) - cast(tirx.clz(x), LONG, 1))
    # Held in memory (LLVM makes registers of it): TVM would analyze nested lets without end.
    state = w.registers(2, LONG, 1)
    state[0], state[1] = x, long(1)
    step = 1 << ((bits - 1).bit_length() - 1)
    while step:
        with w.when(tirx.GE(state[0], long(1 << step))):
            state[0] = tirx.shift_right(state[0], long(step))
            state[1] = state[1] + long(step)
        step //= 2
    return w.let(state[1])


def shifted(w: Script, x: Expr, by: Expr) -> Expr:
    """floor(x * 2**-by), scalars of int64."""
    right = tirx.shift_right(x, tirx.max(by, long(0)))
    return w.let(tirx.shift_left(w.let(right), tirx.max(long(0) - by, long(0))))


def rounded(w: Writer, x: Expr, by: Expr, lanes: int) -> Expr:
    """x * 2**-by rounded half up, for an int64 `by` of `lanes` lanes in [1, 62]."""
    one = splat(1, LONG, lanes)
    half = w.let(tirx.shift_right(x, by - one))
    return tirx.shift_right(half + one, one)


def clipped_shift(by: Expr, lanes: int) -> Expr:
    """An int32 `by` clipped to [1, 62], as int64."""
    inside = tirx.min(tirx.max(by, splat(1, "int32", lanes)), splat(62, "int32", lanes))
    return cast(inside, LONG, lanes)


def row_scale(w: Script, greatest: Expr) -> Expr:
    """The row scale of 0 <= greatest <= 2**31, int64 -> int32."""
    top = w.let(tirx.max(greatest, long(1)))
    e = w.let(bit_length(w, top, 32) - long(8))
    up = tirx.shift_left(long(1), tirx.max(e, long(0))) - long(1)
    a = shifted(w, w.let(top + up), e)
    scale = tirx.Select(tirx.GE(a, long(256)), e * long(256) + long(256 + 128), e * long(256) + a)
    return w.let(cast(w.let(scale), "int32", 1))


class Coder:
    """Codes of one row by its scale, up to `top`: qir.ir.rows.codes, in lanes of int32."""

    def __init__(self, w: Script, constants: ConstantBlock, scale: Expr, top: int) -> None:
        self.w, self.top = w, top
        by = w.let(tirx.min(tirx.max(exponent(scale) - word(7), word(-16)), word(31)))
        self.right, self.left = (
            w.let(tirx.max(by, word(0))), w.let(tirx.max(word(0) - by, word(0)))
        )  # fmt: skip
        at = w.let(tirx.max(mantissa(scale) - word(128), word(0)))
        self.inverse = w.let(constants.take("reciprocals", at))

    def codes(self, x: Expr, lanes: int) -> Expr:
        """Lanes of int32 in [-top, top] from lanes of int32."""
        w = self.w
        t = _clip16(tirx.shift_right(x, spread(self.right, lanes)), lanes)
        t = _clip16(tirx.shift_left(w.let(t), spread(self.left, lanes)), lanes)
        product = w.let(t) * spread(self.inverse, lanes) + splat(1 << 21, "int32", lanes)
        code = w.let(tirx.shift_right(product, splat(22, "int32", lanes)))
        top = splat(self.top, "int32", lanes)
        return tirx.max(tirx.min(code, top), splat(-self.top, "int32", lanes))


class NearCoder:
    """Codes of a row by the scale that was found for it: no element is greater, so that all fit 16
    bits once they are aligned, and products need their high words alone:
    (t * r + 2**21) >> 22 = (((t * r) >> 16) + 2**5) >> 6.
    """

    def __init__(self, w: Script, constants: ConstantBlock, scale: Expr, dtype: str) -> None:
        self.w, self.dtype = w, dtype
        by = w.let(exponent(scale) - word(7))
        self.right, left = w.let(tirx.max(by, word(0))), w.let(tirx.max(word(0) - by, word(0)))
        self.left = w.let(cast(left, "int16", 1))
        inverse = constants.take("reciprocals", w.let(mantissa(scale) - word(128)))
        self.inverse = w.let(cast(inverse, "int16", 1))

    def codes(self, x: Expr, lanes: int) -> Expr:
        """Lanes of int8 from lanes of elements."""
        w = self.w
        if self.dtype == "int32":
            t = w.let(tirx.shift_right(x, spread(self.right, lanes)))
            t = cast(_clip16(t, lanes), "int16", lanes)
        else:
            short = w.let(cast(self.right, "int16", 1))
            t = tirx.shift_right(cast(x, "int16", lanes), spread(short, lanes))
        t = w.let(tirx.shift_left(w.let(t), spread(self.left, lanes)))
        inverse = cast(spread(self.inverse, lanes), "int32", lanes)
        product = w.let(cast(t, "int32", lanes) * inverse)
        high = cast(tirx.shift_right(product, splat(16, "int32", lanes)), "int16", lanes)
        code = tirx.shift_right(w.let(high + splat(32, "int16", lanes)), splat(6, "int16", lanes))
        top = splat(rows.CODE_TOP, "int16", lanes)
        least = splat(-rows.CODE_TOP, "int16", lanes)
        return cast(tirx.max(tirx.min(code, top), least), "int8", lanes)


def _clip16(value: Expr, lanes: int) -> Expr:
    low, high = splat(-(1 << 15), "int32", lanes), splat((1 << 15) - 1, "int32", lanes)
    return tirx.min(tirx.max(value, low), high)


def reciprocal_root(w: Script, constants: ConstantBlock, x: Expr) -> tuple[Expr, Expr]:
    """(y, h) with 1 / sqrt(x) = y * 2**-(24 + h), for int64 1 <= x < 2**62; field `roots`."""
    e = w.let(bit_length(w, x, 62) - long(32))
    e = w.let(e + tirx.bitwise_and(e, long(1)))
    m = shifted(w, x, e)
    at = cast(tirx.shift_right(m, long(25)), "int32", 1) - word(32)
    y = w.registers(1, LONG, 1)
    y[0] = cast(constants.take("roots", w.let(at)), LONG, 1)
    for square, half in ((16, 23), (24, 31)):
        t = w.let(tirx.shift_right(m * tirx.shift_right(y[0] * y[0], long(square)), long(square)))
        y[0] = tirx.shift_right(y[0] * (long(3 << 30) - t), long(half))
    root = w.let(tirx.min(y[0], long(1 << rows.ROOT_BITS)))
    return root, w.let(long(15) + tirx.shift_right(e, long(1)))


def reciprocal(w: Script, constants: ConstantBlock, x: Expr) -> tuple[Expr, Expr]:
    """(r, h) with 1 / x = r * 2**-(30 + h), for int64 1 <= x < 2**31; field `seeds`."""
    length = bit_length(w, x, 31)
    m = shifted(w, x, w.let(length - long(16)))
    at = cast(tirx.shift_right(m, long(8)), "int32", 1) - word(128)
    r = w.let(cast(constants.take("seeds", w.let(at)), LONG, 1))
    t = w.let(tirx.shift_right(m * r, long(1)))
    r = tirx.shift_right(r * (long(2 << 30) - t), long(16))
    return w.let(tirx.min(w.let(r), long(1 << rows.RECIPROCAL_BITS))), w.let(length - long(1))


def across(w: Script, join: Callable[[Expr, Expr], Expr], value: Expr, lanes: int) -> Expr:
    """All lanes joined to one: their least, greatest or sum."""
    while lanes > 1:
        value, lanes = w.let(value), lanes // 2
        halves = (shuffle([value], range(k * lanes, (k + 1) * lanes)) for k in (0, 1))
        value = join(*halves)
    return w.let(value)
