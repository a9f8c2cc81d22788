"""row_scale, quantize_rows, quantize_row_blocks and scale_rows in TIR."""

from __future__ import annotations

from qir.backends.kernels.sequence.rows import (
    QuantizeRowBlocksCode,
    QuantizeRowsCode,
    RowScaleCode,
    ScaleRowsCode,
)
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    Coder,
    across,
    clipped_shift,
    exponent,
    long,
    mantissa,
    rounded,
    row_scale,
    word,
)
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, clamp, splat
from qir.ir.ops.sequence.rows import FRACTION
from qir.ir.rows import CODE_TOP

Blocks = RowScaleCode | QuantizeRowBlocksCode


def emit_row_scale(code: RowScaleCode, symbol: str) -> PrimFunc:
    """`void symbol(x, y, begin, end)`."""
    w = Script(code.vector_bytes > 0)
    x, y = w.pointer("x", code.x), w.pointer("y", "int32")
    step = code.nest.steps[0]
    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
        w.store(y, y_at, row_scale(w, greatest(w, x, x_at, step, code)))
    return w.finish(symbol)


def greatest(
    w: Script, x: Expr, at: Expr, step: int, code: RowScaleCode | QuantizeRowBlocksCode
) -> Expr:
    """max |x| over a row, int64: the least and the greatest are found in int32."""
    size = code.nest.shape[-1]
    lanes = straight((step,), width_of(code.vector_bytes, "int32")) if step else 1
    lanes = 1 << (min(lanes, size).bit_length() - 1)
    ends = w.registers(2, "int32", lanes)
    ends[0], ends[1] = splat(0, "int32", lanes), splat(0, "int32", lanes)

    def row(i: Expr, width: int) -> None:
        values = w.let(cast(w.load(x, at + i * step, width), "int32", width))
        ends[0], ends[1] = tirx.min(ends[0], values), tirx.max(ends[1], values)

    w.spans(size, lanes, row)
    low, high = across(w, tirx.min, ends[0], lanes), across(w, tirx.max, ends[1], lanes)
    return w.let(tirx.max(long(0) - cast(low, LONG, 1), cast(high, LONG, 1)))


def emit_quantize_rows(code: QuantizeRowsCode, symbol: str) -> PrimFunc:
    """`void symbol(x, scale, constants, y, begin, end)`."""
    w = Script()
    x, scale = w.pointer("x", code.x), w.pointer("scale", "int32")
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", "int8")
    x_step, _, y_step = code.nest.steps
    lanes = straight((x_step, y_step), width_of(code.vector_bytes, "int32")) if x_step else 1
    with w.units() as unit, w.rows(code.nest, unit) as (x_at, scale_at, y_at):
        coder = Coder(w, constants, w.let(w.load(scale, scale_at)), CODE_TOP)

        def row(i: Expr, width: int) -> None:
            elements = cast(w.load(x, x_at + i * x_step, width), "int32", width)
            codes = cast(coder.codes(w.let(elements), width), "int8", width)
            w.store(y, y_at + i * y_step, codes, width)

        w.spans(code.nest.shape[-1], lanes, row)
    return w.finish(symbol)


def emit_quantize_row_blocks(code: QuantizeRowBlocksCode, symbol: str) -> PrimFunc:
    """`void symbol(x, scale, constants, y, begin, end)`."""
    w = Script(code.vector_bytes > 0)
    x, scale = w.pointer("x", code.x), w.pointer("scale", "int32")
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y)
    x_step, _, y_step = code.nest.steps
    lanes = straight((x_step, y_step), width_of(code.vector_bytes, "int32")) if x_step else 1
    with w.units() as unit, w.rows(code.nest, unit) as (x_at, scale_at, y_at):
        row = w.let(w.load(scale, scale_at))
        block_scale = row_scale(w, greatest(w, x, x_at, x_step, code))
        less = tirx.Select(tirx.GT(mantissa(block_scale), mantissa(row)), word(1), word(0))
        lower = w.let(exponent(row) - exponent(block_scale) - less)
        t = w.let(clamp(lower, 0, code.spread, "int32", 1))
        coder = Coder(w, constants, w.let(row - t * word(256)), code.top)
        times = w.let(tirx.shift_left(word(1), w.let(word(code.spread) - t)))

        def some(i: Expr, width: int) -> None:
            elements = cast(w.load(x, x_at + i * x_step, width), "int32", width)
            codes = w.let(coder.codes(w.let(elements), width)) * spread(times, width)
            w.store(y, y_at + i * y_step, cast(codes, code.y, width), width)

        w.spans(code.nest.shape[-1], lanes, some)
    return w.finish(symbol)


def emit_scale_rows(code: ScaleRowsCode, symbol: str) -> PrimFunc:
    """`void symbol(x, scale, [residual,] constants, y, begin, end)`."""
    w = Script()
    x, scale = w.pointer("x", "int32"), w.pointer("scale", "int32")
    residual = w.pointer("residual", code.residual) if code.residual else None
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y)
    steps = code.nest.steps
    element_steps = [s for i, s in enumerate(steps) if i != 1]
    lanes = (
        straight(element_steps, width_of(code.vector_bytes, "int32")) if all(element_steps) else 1
    )

    def row(offsets: list[Expr], scales: tuple[Expr, Expr], i: Expr, width: int) -> None:
        a, e = scales
        at = [o + i * s for o, s in zip(offsets, steps, strict=True)]
        mult = cast(constants.take("mult", at[-2], 1, width), LONG, width)
        product = cast(w.load(x, at[0], width), LONG, width) * spread(a, width) * mult
        shifts = cast(constants.take("shift", at[-2], 1, width), "int32", width)
        by = shifts - spread(e, width)
        z = rounded(w, w.let(product), w.let(clipped_shift(w.let(by), width)), width)
        if code.has_bias:
            z = z + constants.take("bias", at[-2], 1, width)
        if residual is not None:
            more = cast(w.load(residual, at[2], width), LONG, width)
            more = more * spread(constants.take("residual", 0), width)
            by = spread(constants.take("residual", 1), width)
            z = z + rounded(w, w.let(more), w.let(by), width)
        half, shift = splat(1 << FRACTION - 1, LONG, width), splat(FRACTION, LONG, width)
        value = clamp(w.let(tirx.shift_right(z + half, shift)), code.low, code.high, LONG, width)
        w.store(y, at[-1], cast(value, code.y, width), width)

    with w.units() as unit, w.rows(code.nest, unit) as offsets:
        s = w.let(w.load(scale, offsets[1]))
        scales = w.let(cast(mantissa(s), LONG, 1)), w.let(exponent(s))
        w.spans(code.nest.shape[-1], lanes, lambda i, width: row(offsets, scales, i, width))
    return w.finish(symbol)
