"""pack_rows and unpack_rows in TIR, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qir.backends.kernels.sequence.packing import PackedRows, PackRowsCode, UnpackRowsCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import across, bit_length, word
from qir.backends.tvm.kernels.sequence.indexed import clipped_index
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, clamp, splat
from qir.ir.ops.sequence.blocks import (
    INVERSE_BITS,
    STEP_FRACTION,
    bits_of,
    piece_size,
    pieces,
)
from qir.ir.types import Bfp

SHORT = "int16"
Make = Callable[[Expr, int], Expr]  # lanes of integers from lanes of codes, or the reverse


def emit_unpack_rows(code: UnpackRowsCode, symbol: str) -> PrimFunc:
    """`void symbol(x, [start,] y, begin, end)`."""
    w, of = Script(), code.of
    x = w.pointer("x", "uint8")
    start = w.pointer("start", code.start) if code.start else None
    y = w.pointer("y", of.dtype)
    lanes = width_of(code.vector_bytes, SHORT) if of.step == 1 else 1
    last = None
    if start is not None:
        last = clipped_index(w, start, 0, of.rows) + word(code.count)
        last = w.let(last)
    with w.units() as unit:
        batch, row = w.split(unit, of.rows)
        y_at = w.let(batch * of.pitches[0] + row * of.pitches[1])
        x_at = w.let(unit * of.bytes)
        if last is None:
            _unpack(w, of, (x, x_at), (y, y_at), lanes)
        else:
            with w.when(tirx.LT(row, last)):
                _unpack(w, of, (x, x_at), (y, y_at), lanes)
            with w.when(tirx.GE(row, last)):
                zeros = width_of(code.vector_bytes, of.dtype) if of.step == 1 else 1
                w.spans(
                    of.width,
                    zeros,
                    lambda i, n: w.store(y, y_at + i * of.step, splat(0, of.dtype, n), n),
                )
    return w.finish(symbol)


Place = tuple[Expr, Expr]


def _unpack(w: Script, of: PackedRows, packed: Place, integers: Place, lanes: int) -> None:
    """One row."""
    (x, x_at), (y, y_at) = packed, integers
    bits, block = bits_of(of.packing), of.packing.block
    count, size = of.width // block, piece_size(bits, block)
    numbers = w.let(x_at + of.width * bits // 8)
    by_piece = _by_piece(bits, block)
    with w.steps(count, "block") as b:
        first, to = w.let(x_at + b * (block * bits // 8)), w.let(y_at + b * (block * of.step))
        number = cast(w.load(x, numbers + b), SHORT, 1)
        make = _floating if isinstance(of.packing, Bfp) else _spanned
        decoder = make(w, of, x, w.let(number), numbers + b + count)

        def some(i: Expr, n: int) -> None:
            for piece, parts in enumerate(by_piece):
                codes = None
                for byte, shift, width, at in parts:
                    part = cast(w.load(x, first + byte + i, n), SHORT, n)
                    if shift:
                        part = tirx.shift_right(part, splat(shift, SHORT, n))
                    if shift + width < 8:
                        part = tirx.bitwise_and(part, splat((1 << width) - 1, SHORT, n))
                    part = w.let(part * splat(1 << at, SHORT, n) if at else part)
                    codes = part if codes is None else w.let(codes + part)
                place = to + (i + piece * size) * of.step
                w.store(y, place, cast(decoder(codes, n), of.dtype, n), n)

        w.spans(size, lanes, some)


def _by_piece(bits: int, block: int) -> Sequence[list[tuple[int, int, int, int]]]:
    spans: list[list[tuple[int, int, int, int]]] = [
        [] for _ in range(block // piece_size(bits, block))
    ]
    for piece, *part in pieces(bits, block):
        byte, shift, width, at = part
        spans[piece].append((byte, shift, width, at))
    return spans


def _floating(w: Script, of: PackedRows, x: Expr, number: Expr, other: Expr) -> Make:
    """Codes times a power of two."""
    bits = bits_of(of.packing)
    t = tirx.min(number, tirx.const(of.bits - bits, SHORT))
    power = tirx.shift_left(tirx.const(1, "int32"), w.let(cast(t, "int32", 1)))
    times = w.let(cast(power, SHORT, 1))

    def elements(codes: Expr, n: int) -> Expr:
        return (codes - splat(1 << (bits - 1), SHORT, n)) * spread(times, n)

    return elements


def _spanned(w: Script, of: PackedRows, x: Expr, number: Expr, other: Expr) -> Make:
    """The least value and steps."""
    low = w.let(cast(w.load(x, other), SHORT, 1) - tirx.const(128, SHORT))
    half = 1 << (STEP_FRACTION - 1)

    def elements(codes: Expr, n: int) -> Expr:
        product = w.let(codes * spread(number, n) + splat(half, SHORT, n))
        value = tirx.shift_right(product, splat(STEP_FRACTION, SHORT, n)) + spread(low, n)
        top = (1 << (of.bits - 1)) - 1
        return tirx.min(w.let(value), splat(top, SHORT, n))

    return elements


def emit_pack_rows(code: PackRowsCode, symbol: str) -> PrimFunc:
    """`void symbol(x, [constants,] y, begin, end)`."""
    return _Pack(code).build(symbol)


class _Pack:
    def __init__(self, code: PackRowsCode) -> None:
        self.of, self.w = code.of, Script()
        w = self.w
        self.x = w.pointer("x", self.of.dtype)
        self.constants = ConstantBlock(w, code.fields) if code.fields.entries else None
        self.y = w.pointer("y", "uint8")
        self.lanes = width_of(code.vector_bytes, "int32") if self.of.step == 1 else 1

    def build(self, symbol: str) -> PrimFunc:
        w, of = self.w, self.of
        bits, block = bits_of(of.packing), of.packing.block
        with w.units() as unit:
            batch, row = w.split(unit, of.rows)
            x_at = w.let(batch * of.pitches[0] + row * of.pitches[1])
            y_at = w.let(unit * of.bytes)
            numbers = w.let(y_at + of.width * bits // 8)
            with w.steps(of.width // block, "block") as b:
                self.first = w.let(x_at + b * (block * of.step))
                self.to = w.let(y_at + b * (block * bits // 8))
                self._block(numbers + b, numbers + b + of.width // block)
        return w.finish(symbol)

    def _block(self, number: Expr, other: Expr) -> None:
        w, of = self.w, self.of
        bits = bits_of(of.packing)
        low, high = self._ends()
        if isinstance(of.packing, Bfp):
            top = w.let(tirx.max(word(0) - low, high))
            # of 0 and of 1 the same exponent follows
            length = cast(bit_length(w, cast(tirx.max(top, word(1)), "int64", 1), 17), "int32", 1)
            t = w.let(clamp(w.let(length - word(bits - 1)), 0, of.bits - bits, "int32", 1))
            half = w.let(tirx.shift_right(tirx.shift_left(word(1), t), word(1)))
            w.store(self.y, number, cast(t, "uint8", 1))
            most = 1 << (bits - 1)

            def code(x: Expr, n: int) -> Expr:
                value = tirx.shift_right(x + spread(half, n), spread(t, n))
                return clamp(w.let(value), -most, most - 1, "int32", n) + splat(most, "int32", n)
        else:
            assert self.constants is not None
            reach = w.let(high - low)
            inverse = w.let(self.constants.take("inverses", reach))
            w.store(self.y, number, cast(self.constants.take("steps", reach), "uint8", 1))
            w.store(self.y, other, cast(low + word(128), "uint8", 1))

            def code(x: Expr, n: int) -> Expr:
                product = w.let((x - spread(low, n)) * spread(inverse, n))
                half = splat(1 << INVERSE_BITS - 1, "int32", n)
                value = tirx.shift_right(product + half, splat(INVERSE_BITS, "int32", n))
                return tirx.min(w.let(value), splat((1 << bits) - 1, "int32", n))

        size = piece_size(bits, of.packing.block)
        w.spans(size, self.lanes, lambda i, n: self._bytes(code, i, n))

    def _ends(self) -> tuple[Expr, Expr]:
        """The least and the greatest of the block, int32; of bfp with 0."""
        w, of, block = self.w, self.of, self.of.packing.block
        lanes = 1 << (min(self.lanes, block).bit_length() - 1)
        ends = w.registers(2, "int32", lanes)
        start = w.let(cast(w.load(self.x, self.first), "int32", 1))
        ends[0] = ends[1] = spread(start, lanes)

        def some(i: Expr, n: int) -> None:
            values = w.let(cast(w.load(self.x, self.first + i * of.step, n), "int32", n))
            ends[0], ends[1] = tirx.min(ends[0], values), tirx.max(ends[1], values)

        w.spans(block, lanes, some)
        return across(w, tirx.min, ends[0], lanes), across(w, tirx.max, ends[1], lanes)

    def _bytes(self, code: Make, i: Expr, n: int) -> None:
        """The bytes of every plane at i, from the codes of all pieces there."""
        w, of = self.w, self.of
        bits, block = bits_of(of.packing), of.packing.block
        size = piece_size(bits, block)
        codes = []
        for piece in range(block // size):
            at = self.first + (i + piece * size) * of.step
            codes.append(w.let(code(w.let(cast(w.load(self.x, at, n), "int32", n)), n)))
        planes: dict[int, Expr] = {}
        for piece, byte, shift, width, at in pieces(bits, block):
            part = codes[piece]
            if at:
                part = tirx.shift_right(part, splat(at, "int32", n))
            part = tirx.bitwise_and(part, splat((1 << width) - 1, "int32", n))
            part = w.let(tirx.shift_left(part, splat(shift, "int32", n)))
            planes[byte] = part if byte not in planes else w.let(planes[byte] + part)
        for byte, value in planes.items():
            w.store(self.y, self.to + byte + i, cast(value, "uint8", n), n)
