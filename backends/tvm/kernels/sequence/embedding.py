"""embed in TIR: of a tensor, and of weights as the kernel of a layer has them packed."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.kernels.contraction.bits import fields, packed_rows, unit_steps
from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.plain import PlainCode
from qir.backends.kernels.kernel import WEIGHTS
from qir.backends.kernels.sequence.embedding import EmbedCode, EmbedPackedCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.contraction.plain import streamed
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import LONG, rounded, word
from qir.backends.tvm.kernels.sequence.indexed import clipped_index
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, clamp

Take = Callable[[Expr, Expr], None]
"""Takes a channel and its weight, int32."""


def emit_embed(code: EmbedCode, symbol: str) -> PrimFunc:
    """`void symbol(table, index, constants, y, begin, end)`."""
    w = Script()
    table, index = w.pointer("table", code.table), w.pointer("index", code.index)
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y)
    table_step, _, y_step = code.nest.steps
    steps = (table_step, y_step)
    lanes = straight(steps, width_of(code.vector_bytes, "int32")) if table_step else 1

    with w.units() as unit, w.rows(code.nest, unit) as (table_at, index_at, y_at):
        row = clipped_index(w, index, index_at, code.rows - 1)
        mult = w.let(cast(constants.take("mult", row), LONG, 1))
        first = w.let(table_at + row * code.pitch)

        def element(i: Expr, width: int) -> None:
            codes = w.load(table, first + i * table_step, width)
            value = _scaled(w, code, constants, codes, mult, width)
            w.store(y, y_at + i * y_step, value, width)

        w.spans(code.nest.shape[-1], lanes, element)
    return w.finish(symbol)


def emit_embed_packed(code: EmbedPackedCode, symbol: str) -> PrimFunc:
    """`void symbol(weights, index, constants, y, begin, end)`."""
    w = Script()
    layer = code.layer
    weights = w.pointer(WEIGHTS, "uint8" if _is_raised(layer) else "int8")
    index = w.pointer("index", code.index)
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y)
    y_step = code.nest.steps[-1]

    with w.units() as unit, w.rows(code.nest, unit) as (index_at, y_at):
        row = clipped_index(w, index, index_at, code.rows - 1)
        mult = w.let(cast(constants.take("mult", row), LONG, 1))

        def element(channel: Expr, weight: Expr) -> None:
            value = _scaled(w, code, constants, weight, mult, 1)
            w.store(y, y_at + channel * y_step, value)

        if isinstance(layer, DenseCode):
            _panel_row(w, layer, weights, row, element)
        else:
            _stream_row(w, layer, weights, row, element)
    return w.finish(symbol)


def _scaled(
    w: Script,
    code: EmbedCode | EmbedPackedCode,
    constants: ConstantBlock,
    codes: Expr,
    mult: Expr,
    width: int,
) -> Expr:
    """clip((found * mult + 2**(shift-1)) >> shift)"""
    product = w.let(cast(codes, LONG, width) * spread(mult, width))
    by = spread(constants.take("shift"), width)
    value = clamp(w.let(rounded(w, product, by, width)), code.low, code.high, LONG, width)
    return cast(value, code.y, width)


def _is_raised(layer: DenseCode | PlainCode) -> bool:
    """Whether weights are kept 2**(bits-1) larger."""
    if isinstance(layer, DenseCode):
        return layer.packing.bits < 8 or layer.machine.weight_offset > 0
    return layer.bits < 8


def _stream_row(w: Script, layer: PlainCode, weights: Expr, row: Expr, take: Take) -> None:
    _, ky, kx, inner = layer.spec.weight_shape
    count = ky * kx * inner
    first = w.let(row * count)
    with w.steps(count, "c") as c:
        take(c, w.let(streamed(w, weights, first + c, layer.bits)))


def _panel_row(w: Script, layer: DenseCode, weights: Expr, row: Expr, take: Take) -> None:
    """In panels (see panels.py) the weights of one step of a row are adjacent, a `depth` of them;
    steps are packed by units (see bits.py).
    """
    bits, depth = layer.packing.bits, layer.machine.depth
    width = layer.together * layer.machine.lanes
    last = max(layer.share - width, 0)
    panel, _ = w.split(row, width)
    lane = row - w.let(tirx.min(panel * width, last)) if last else row
    first = w.let(panel * (layer.together * layer.weights_of_one) + lane * depth)
    unit, count = unit_steps(bits), layer.runs.length
    units, pitch = count // (unit * depth), layer.row_pitch

    def step(at: Expr, channel: Expr, number: int, steps: int, length: int) -> None:
        """`length` weights of step `number` of the `steps` whose rows begin at `at`."""
        with w.steps(length, "k") as k:
            value = None
            for f in fields(bits, number, steps):
                byte = cast(w.load(weights, at + f.row * pitch + k), "int32", 1)
                part = tirx.shift_right(byte, word(f.shift))
                part = tirx.bitwise_and(part, word((1 << f.width) - 1)) * word(1 << f.at)
                value = byte if bits == 8 else part if value is None else value + part
            less = word(1 << (bits - 1)) if _is_raised(layer) else word(0)
            take(channel + k, w.let(value - less))

    if units:
        with w.steps(units, "unit") as u:
            at = w.let(first + u * (packed_rows(bits, unit) * pitch))
            for number in range(unit):
                step(at, (u * unit + number) * depth, number, unit, depth)
    looped = units * unit * depth
    rest = w.let(first + units * packed_rows(bits, unit) * pitch)
    steps = layer.steps(count - looped)
    for number in range(steps):
        length = min(depth, count - looped - number * depth)
        step(rest, looped + number * depth, number, steps, length)
