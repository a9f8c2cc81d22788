"""Depthwise convolutions as TIR: unpack the taps, dot, epilogue in registers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from qir.backends.kernels.contraction.bits import fields
from qir.backends.kernels.contraction.depthwise import DepthwiseCode
from qir.backends.kernels.kernel import CONSTANTS, WEIGHTS
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.dots import DOTS
from qir.backends.tvm.kernels.contraction.unpack import unpack
from qir.backends.tvm.kernels.requantize.epilogue import epilogue_of
from qir.backends.tvm.kernels.stores import Stores, store_lanes
from qir.backends.tvm.kernels.writer import Expr, Writer, cast_bits, shuffle, splat


class _Depthwise:
    def __init__(self, code: DepthwiseCode) -> None:
        self.code, self.dot, self.writer = code, DOTS[code.dot], Writer()
        self.size = code.machine.vector_bytes
        w = self.writer
        self.x = w.pointer("x", code.x.dtype)
        self.weights = w.pointer(WEIGHTS, "int8")
        self.constants = w.pointer(CONSTANTS, "int8")
        if code.machine.aligned:
            w.align(self.weights, self.size)
            w.align(self.constants, self.size)
        self.residual = w.pointer("residual", code.residual.dtype) if code.residual else None
        self.y = w.pointer("y", code.y.dtype)
        self.begin, self.end = w.scalar("begin"), w.scalar("end")
        self.epilogue = epilogue_of(w, self.dot, code.epilogue, self.constants)

    def build(self, symbol: str) -> PrimFunc:
        code, w = self.code, self.writer
        self.widened = self._widen_all() if code.widens_first else None
        with w.loop(self.begin, self.end, "unit") as unit:
            image, turn = w.split(unit, code.row_units)
            row = turn
            if code.rows > 1:
                row = w.let(tirx.min(turn * code.rows, code.y.height - code.rows))
            x = w.let(image * code.x.pitch_n + row * (code.strides[0] * code.x.pitch_y))
            y = w.let(image * code.y.pitch_n + row * code.y.pitch_y)
            r = 0
            if code.residual:
                r = w.let(image * code.residual.pitch_n + row * code.residual.pitch_y)
            with self._chunks() as (column, inside, weight_set, set_weights):
                sx = code.strides[1]
                self._chunk(
                    w.let(x + column * (sx * code.x.pitch_x) + inside),
                    w.let(y + column * code.y.pitch_x + inside),
                    w.let(r + column * code.residual.pitch_x + inside) if code.residual else 0,
                    weight_set,
                    set_weights,
                )
        return w.finish(symbol)

    def _widen_all(self) -> Expr:
        """All weights, widened; byte i becomes one of the int16 from i on."""
        code, w, half = self.code, self.writer, self.size // 2
        widened = w.aligned(code.weight_bytes, "int16", self.size)
        with w.steps(code.weight_bytes // self.size, "row") as row:
            row_bytes = w.let(w.load(self.weights, row * self.size, self.size), "w")
            for f, form in enumerate(self.dot.widen_weights(row_bytes)):
                w.store(widened, row * self.size + f * half, form, half)
        return widened

    @contextmanager
    def _chunks(self) -> Iterator[tuple[Expr, Expr, Expr, list[Expr]]]:
        """Loops over a row: first pixel of a chunk, first element in it, its set, its weights.

        The weights are unpacked ones of fewer than 8 bits; others are loaded as they are used.
        """
        code, w = self.code, self.writer
        if code.bits < 8 and code.along_row:
            with self._sets() as (inside, weight_set, set_weights):
                yield 0, inside, weight_set, set_weights
            return
        with w.steps(code.chunks, "chunk") as chunk:
            inside, weight_set = chunk * self.size, chunk
            if code.chunks > 1:
                last = code.stretch - code.count
                inside = w.let(tirx.min(inside, last))
                if code.chunks > code.period:
                    turn = chunk % code.period if code.period > 1 else 0
                    weight_set = w.let(
                        tirx.Select(chunk == code.chunks - 1, _int(code.last_set), _int(turn))
                    )
            if code.along_row:
                yield 0, inside, weight_set, []
                return
            set_weights = self._set_weights(weight_set) if code.bits < 8 else []
            with w.steps(-(-code.y.width // code.pixels), "column") as turn:
                column = turn
                if code.pixels > 1:
                    column = w.let(tirx.min(_int(turn * code.pixels), code.y.width - code.pixels))
                yield column, inside, weight_set, set_weights

    @contextmanager
    def _sets(self) -> Iterator[tuple[Expr, Expr, list[Expr]]]:
        """The chunks of a row, set by set: first element of a chunk, its set, the set's weights.

        The last chunk comes alone where moving back made its set another than its turn's.
        """
        code, w, period = self.code, self.writer, self.code.period
        alone = int(code.last_set != (code.chunks - 1) % period)
        with w.steps(period + alone, "set") as turn:
            first, weight_set = turn, turn
            count = (code.chunks - alone - turn + period - 1) // period
            if alone:
                is_last = turn == period
                first = w.let(tirx.Select(is_last, _int(code.chunks - 1), turn))
                weight_set = w.let(tirx.Select(is_last, _int(code.last_set), turn))
                count = tirx.Select(is_last, _int(1), count)
            set_weights = self._set_weights(weight_set)
            with w.loop(0, count, "chunk") as chunk:
                inside = (first + chunk * period) * self.size
                yield (
                    w.let(tirx.min(inside, _int(code.stretch - code.count))),
                    weight_set,
                    set_weights,
                )

    def _set_weights(self, weight_set: Expr) -> list[Expr]:
        """The weights of a set: [group][vector], of the first row."""
        code, w = self.code, self.writer
        first = w.let(weight_set * code.set_bytes)

        @cache
        def load(row: int) -> Expr:
            return w.let(w.load(self.weights, first + row * self.size, self.size), "w")

        return [
            w.let(unpack(load, fields(code.bits, i, code.steps), self.size, lane="uint32"), "w")
            for i in range(code.steps)
        ]

    def _weights(
        self,
        source: Expr,
        widened: Expr,
        at: Expr,
        set_weights: list[Expr],
        turn: tuple[int, int, int],
    ) -> list[Expr]:
        """Those of one dot, of (group, row, vector): loaded from `at` on, or of `set_weights`.

        In the second row every lane's taps are one place further.
        """
        (group, row, j), w, half = turn, self.writer, self.size // 2
        place = at + ((group * self.code.rows + row) * 4 + j) * self.size
        if widened is not None:
            return [w.load(widened, place + f * half, half) for f in (0, 1)]
        if not set_weights:
            return self.dot.widen_weights(w.load(source, place, self.size))
        weights, lanes = set_weights[group * 4 + j], self.dot.lanes
        if row:
            words = cast_bits(weights, f"uint32x{lanes}")
            shifted_words = tirx.shift_left(words, splat(8, "uint32", lanes))
            weights = cast_bits(shifted_words, f"int8x{self.size}")
        return self.dot.widen_weights(weights)

    def _chunk(self, x: Expr, y: Expr, r: Expr, weight_set: Expr, set_weights: list[Expr]) -> None:
        code, w = self.code, self.writer
        weights = 0 if set_weights else w.let(weight_set * code.set_bytes)
        source, constants = self.weights, self.constants
        if not code.machine.aligned:
            source, constants = w.anew(source), w.anew(constants)
        epilogue = replace(self.epilogue, constants=constants)
        widened = self.widened
        if widened is not None and self.code.along_row:
            widened = w.anew(widened)
        record = w.let(weight_set * (4 * code.record_bytes))
        starts = [w.let(epilogue.start(record + j * code.record_bytes)) for j in range(4)]
        acc = [list(starts) for _ in range(code.rows)]
        for g, group in enumerate(code.groups):
            unpacked = [
                self.dot.widen(v) for v in self._unpack([self._tap(x, tap) for tap in group])
            ]
            for row in range(code.rows):
                for j in range(4):
                    operands = self._weights(source, widened, weights, set_weights, (g, row, j))
                    acc[row][j] = w.let(self.dot.step(acc[row][j], unpacked[j], operands), "acc")
        for row in range(code.rows):
            values = []
            for j in range(4):
                residual = self._residual(r, row, j)
                at = record + j * code.record_bytes
                values.append(epilogue.requantize(acc[row][j], at, residual))
            self._store(w.let(y + row * code.y.pitch_y), values)

    def _tap(self, x: Expr, tap: tuple[int, int]) -> Expr:
        """The elements of X that meet one tap, as u8."""
        code, w = self.code, self.writer
        at = (
            x
            + tap[0] * code.dilations[0] * code.x.pitch_y
            + tap[1] * code.dilations[1] * code.x.pitch_x
        )
        value = w.load(self.x, at, self.size)
        if code.pixels > 1:  # every second pixel of two vectors
            c = code.y.channels
            picks = [2 * c * p + i for p in range(code.pixels) for i in range(c)]
            value = shuffle([w.let(value), w.let(w.load(self.x, at + self.size, self.size))], picks)
        if code.machine.x not in (None, code.x.dtype):
            value = tirx.bitwise_xor(
                cast_bits(value, f"uint8x{self.size}"), splat(128, "uint8", self.size)
            )
        return w.let(value, "tap")

    def _unpack(self, taps: list[Expr]) -> list[Expr]:
        """Four vectors of bytes -> four of lanes of four bytes; missing taps have zero weights."""
        let = self.writer.let
        block = self.code.machine.block
        t = [taps[min(i, len(taps) - 1)] for i in range(4)]
        pairs = [let(_mixed(t[a], t[a + 1], 1, half, block)) for half in (0, 1) for a in (0, 2)]
        return [
            let(_mixed(pairs[h], pairs[h + 1], 2, half, block)) for h in (0, 2) for half in (0, 1)
        ]

    def _residual(self, r: Expr, row: int, j: int) -> Expr | None:
        code = self.code
        if self.residual is None or code.residual is None:
            return None
        vector = self.writer.load(self.residual, r + row * code.residual.pitch_y, self.size)
        block = code.machine.block
        picks = [q * block + j * block // 4 + e
                 for q in range(self.size // block) for e in range(block // 4)]  # fmt: skip
        return self.writer.let(tirx.Cast(f"int32x{self.dot.lanes}", shuffle([vector], picks)), "r")

    def _store(self, y: Expr, values: list[Expr]) -> None:
        """Bytes are in order after the packs; wider results go out in blocks."""
        code, w, lanes = self.code, self.writer, self.dot.lanes
        if code.machine.block == self.size:
            stores = Stores(w, self.y, y, self.epilogue)
            for j, value in enumerate(values):
                if code.count > j * lanes:
                    stores.add(value, j * lanes, min(lanes, code.count - j * lanes))
            stores.flush()
            return
        if code.y.dtype in ("uint8", "int8"):
            packed = w.let(self.epilogue.pack_chunk(values))
            store_lanes(w, self.y, y, packed, self.size, 0, 0, code.count)
            return
        wide = values
        if code.y.dtype == "int16":
            wide = [self.epilogue.pack_words(values[i : i + 2]) for i in (0, 2)]
        total = self.size // (2 if code.y.dtype == "int16" else 4)
        block = 16 // len(wide)
        for v, value in enumerate(wide):
            packed = w.let(value)
            for q in range(self.size // 16):
                offset = q * 16 + v * block
                store_lanes(
                    w, self.y, y, packed, total, q * block, offset, min(block, code.count - offset)
                )


def _mixed(a: Expr, b: Expr, unit: int, half: int, block: int) -> Expr:
    """Units of bytes of a and b in turn, from one half of each block: vpunpck, zip, vshuff."""
    size = int(str(a.ty).rsplit("x", 1)[1])
    picks = []
    for start in range(0, size, block):
        for i in range(0, block // 2, unit):
            first = start + block // 2 * half + i
            picks += [*range(first, first + unit), *range(size + first, size + first + unit)]
    return shuffle([a, b], picks)


def _int(value: Any) -> Expr:
    return tirx.IntImm("int32", value) if isinstance(value, int) else value


def emit_depthwise(code: DepthwiseCode, symbol: str) -> PrimFunc:
    """`void symbol(x, weights, constants, [residual,] y, begin, end)`."""
    return _Depthwise(code).build(symbol)
