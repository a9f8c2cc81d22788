"""Dense and grouped contractions as TIR: one blocked nest around a dot, epilogue in registers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qir.backends.kernels.contraction.bits import packed_rows, unit_steps
from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.tiling import UNROLLED_STEPS
from qir.backends.kernels.kernel import CONSTANTS, WEIGHTS
from qir.backends.kernels.plane import Plane
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.dots import DOTS
from qir.backends.tvm.kernels.contraction.channels import WorkUnit, channels_of
from qir.backends.tvm.kernels.contraction.panel import Panel
from qir.backends.tvm.kernels.contraction.row_tail import row_tail
from qir.backends.tvm.kernels.requantize.epilogue import VectorEpilogue, epilogue_of
from qir.backends.tvm.kernels.stores import Stores
from qir.backends.tvm.kernels.words import Words
from qir.backends.tvm.kernels.writer import Expr, Registers, Writer, cast, shuffle, splat

BODY = 32  # dots in the loop of a chain: longer ones spill


class _Dense:
    def __init__(self, code: DenseCode) -> None:
        self.code, self.dot, self.writer = code, DOTS[code.dot], Writer()
        w = self.writer
        x = w.pointer("x", code.x.dtype)
        self.pointers = [w.pointer(name, "int8") for name in (WEIGHTS, CONSTANTS)]
        if code.machine.aligned:
            for pointer in self.pointers:
                w.align(pointer, code.machine.vector_bytes)
        self.weights, self.constants = self.pointers
        self.residual = w.pointer("residual", code.residual.dtype) if code.residual else None
        self.tail = row_tail(w, code, self.dot) if code.rows else None
        self.y = w.pointer("y", code.rows.dtype if code.rows else code.y.dtype)
        self.begin, self.end = w.scalar("begin"), w.scalar("end")
        self.machine, self.words = code.machine, Words(code, w, x)
        self.epilogue = epilogue_of(w, self.dot, code.epilogue, self.constants)

    def build(self, symbol: str) -> PrimFunc:
        w = self.writer
        if self.machine.widens:
            per = self.code.panel_units
            widened = w.aligned(self.code.panel_pitch, "int16", self.machine.vector_bytes)
            with w.loop(self.begin // per, (self.end + (per - 1)) // per, "panel") as panel:
                self._widen_panel(widened, panel)
                first, last = panel * per, (panel + 1) * per
                self._units(tirx.max(self.begin, first), tirx.min(self.end, last), widened)
        else:
            self._units(self.begin, self.end)
        return w.finish(symbol)

    def _units(self, begin: Expr, end: Expr, widened: Expr = None) -> None:
        """Units of work, of one panel with its widened weights where there are any."""
        w = self.writer
        with w.loop(begin, end, "unit") as unit:
            if not self.machine.aligned:
                self.weights, self.constants = map(w.anew, self.pointers)
            self.epilogue = epilogue_of(w, self.dot, self.code.epilogue, self.constants)
            at = self._locate(unit)
            self.panel = Panel(self.code, self.dot, w, (self.weights, self.constants), widened)
            acc = self._accumulate(at)
            self._finish(at, acc)

    def _widen_panel(self, widened: Expr, panel: Expr) -> None:
        """Widens the weights of a panel; byte i becomes one of the int16 from i on."""
        w, size = self.writer, self.machine.weight_bytes
        group, local = w.split(panel, self.code.group_panels)
        channels = channels_of(w, self.code, group, local)
        first = w.let(channels.vector * self.code.weights_of_one)
        with w.steps(self.code.panel_pitch // size, "row") as row:
            row_bytes = w.let(w.load(self.weights, first + row * size, size), "w")
            for f, form in enumerate(self.dot.widen_weights(row_bytes)):
                w.store(widened, row * size + f * (size // 2), form, size // 2)

    def _locate(self, unit: Expr) -> WorkUnit:
        code, let = self.code, self.writer.let
        rest, tile = self.writer.split(unit, code.row_tiles)
        rest, row = self.writer.split(rest, code.column_tiles)
        panel, image = self.writer.split(rest, code.y.batch)
        first = (
            let(tirx.min(tile * code.tile.pixels, code.y.width - code.tile.pixels))
            if code.row_tiles > 1
            else 0
        )
        if code.column_tiles > 1 and code.tile.rows > 1:
            row = let(tirx.min(row * code.tile.rows, code.y.height - code.tile.rows))
        group, local = self.writer.split(panel, code.group_panels)
        channels = channels_of(self.writer, code, group, local)
        channel = group * code.share + channels.first
        sy, sx = code.strides
        offset = self._offset
        x = offset(code.x, image, row * sy, first * sx) + group * (code.x.channels // code.groups)
        residual = offset(code.residual, image, row, first) + channel if code.residual else 0
        if code.aligned:
            x = tirx.shift_right(x, tirx.const(self.words.size.bit_length() - 1, "int32"))
        return WorkUnit(
            x=let(x, "x_at"),
            y=let(offset(code.y, image, row, first) + channel, "y_at"),
            residual=let(residual, "r_at"),
            pixel=(image, row, first),
            channels=channels.each,
            weights=0
            if self.machine.widens
            else let(channels.vector * code.weights_of_one, "w_at"),
            mults=let(channels.vector * code.mult_bytes, "m_at") if code.packing.block else 0,
            records=let(channels.vector * code.record_bytes + code.records_at, "k_at"),
        )

    @staticmethod
    def _offset(plane: Plane, image: Expr, row: Expr, column: Expr) -> Expr:
        return image * plane.pitch_n + row * plane.pitch_y + column * plane.pitch_x

    def _place(self, plane: Plane, index: int, strides: tuple[int, int] = (1, 1)) -> int:
        """Offset of one pixel of a tile from its first."""
        row, column = divmod(index, self.code.tile.pixels)
        return row * strides[0] * plane.pitch_y + column * strides[1] * plane.pitch_x

    def _accumulate(self, at: WorkUnit) -> list[Expr]:
        """The tile's accumulators, [pixel][vector]."""
        code, w, tile = self.code, self.writer, self.code.tile
        count = self.places * tile.vectors
        splits = 1 if self.groups_apart else tile.splits
        acc = w.registers(count * splits, "int32", self.dot.lanes)
        self._clear(acc, count * splits)
        if code.packing.chain:
            self.links = w.registers(count * self.machine.sums, "int16", 2 * self.dot.lanes)
        if self.groups_apart:
            self.parts = w.registers(count * tile.splits, "int32", self.dot.lanes)
        if self.machine.weight_offset:
            self.sums = w.registers(tile.places, "int64", 1)
            self._clear_sums()
        if code.epilogue.starts:
            for i in range(count):
                record = at.records + i % tile.vectors * (code.spacing * code.record_bytes)
                acc[i] = self._epilogue(i).start(record)
        runs = code.runs
        with w.steps(runs.rows, "ky") as ky, w.steps(runs.columns, "kx") as kx:
            x = w.let(
                at.x
                + ky * (runs.pitch_y // self.words.size)
                + kx * (runs.pitch_x // self.words.size)
            )
            tap = ky * runs.columns + kx
            weights = w.let(at.weights + tap * (code.run_rows * code.row_pitch))
            if code.packing.block:
                mults = w.let(at.mults + tap * (len(runs.parts) * code.mult_pitches[0]))
                self._groups(acc, x, weights, mults)
            else:
                self._sum(acc, x, weights, code.steps(runs.length))
        if self.groups_apart:
            return [acc[i] for i in range(count)]
        return self._parted(self._sums_of_splits(acc))

    def _clear(self, acc: Registers, count: int) -> None:
        for i in range(count):
            acc[i] = splat(0, "int32", self.dot.lanes)

    def _clear_sums(self) -> None:
        for i in range(self.code.tile.places):
            self.sums[i] = tirx.const(0, "int64")

    def _sums_of_splits(self, acc: Registers) -> list[Expr]:
        """The sums of all splits."""
        tile, count = self.code.tile, self.places * self.code.tile.vectors
        return [
            sum((acc[s * count + i] for s in range(1, tile.splits)), acc[i]) for i in range(count)
        ]

    @property
    def groups_apart(self) -> bool:
        """Groups are summed up in accumulators of their own, before they are multiplied."""
        return self.code.packing.block > 0 and not self.code.packing.chain

    def _groups(self, acc: Registers, x: Expr, weights: Expr, mults: Expr) -> None:
        """All groups of one run: those of full length in a loop, then a shorter one."""
        code, w, parts = self.code, self.writer, self.code.runs.parts
        full_groups = parts.count(parts[0])
        pitch = code.part_rows(parts[0]) * code.row_pitch
        per_group = code.mult_pitches[0]
        with w.steps(full_groups, "group") as g:
            from_x = w.let(x + g * (parts[0] // self.words.size))
            self._group(
                acc, from_x, w.let(weights + g * pitch), mults + g * per_group, code.steps(parts[0])
            )
        for n, part in enumerate(parts[full_groups:], full_groups):
            from_x = x + n * (parts[0] // self.words.size)
            self._group(acc, from_x, weights + n * pitch, mults + n * per_group, code.steps(part))

    def _group(self, acc: Registers, x: Expr, weights: Expr, mults: Expr, steps: int) -> None:
        """acc += the sum over one group, times its multipliers."""
        vectors = self.code.tile.vectors
        self.mults = self.panel.multipliers(mults)
        if not self.groups_apart:
            self._sum(acc, x, weights, steps)
            return
        self._clear(self.parts, self.places * vectors * self.code.tile.splits)
        if self.machine.weight_offset:
            self._clear_sums()
        self._run(self.parts, x, weights, steps)
        for i, total in enumerate(self._parted(self._sums_of_splits(self.parts))):
            acc[i] = self.dot.scaled(acc[i], total, self.mults[i % vectors])

    @property
    def places(self) -> int:
        """Pixels of a tile, those included that only fill up shared accumulators."""
        rows = self.machine.rows
        return -(-self.code.tile.places // rows) * rows

    def _parted(self, acc: list[Expr]) -> list[Expr]:
        """Accumulators that rows of a dot share, taken apart; what larger weights added, off."""
        rows, vectors = self.machine.rows, self.code.tile.vectors
        if self.machine.weight_offset:
            totals = [self.writer.let(self.sums[p]) for p in range(self.places)]
            larger = 1 << (self.code.packing.bits - 1)
            return [self.dot.corrected(a, totals[i // vectors], larger) for i, a in enumerate(acc)]
        if rows == 1:
            return acc
        parted = list(acc)
        for p in range(0, self.places, rows):
            for v in range(vectors):
                shared = [(p + i) * vectors + v for i in range(rows)]
                sums = [self.writer.let(acc[i], "acc") for i in shared]
                for i, value in zip(shared, self.dot.parted(sums), strict=True):
                    parted[i] = value
        return parted

    def _sum(self, acc: Registers, x: Expr, weights: Expr, steps: int) -> None:
        """acc += all dots of one run."""
        add = self._chains if self.code.packing.chain else self._run
        add(acc, x, weights, steps)

    @property
    def _turn(self) -> int:
        """Steps in the body of a loop, at least; a power of two, as a unit of packed weights is."""
        if not self.code.packing.chain:
            return max(self.code.tile.splits, self.machine.together)
        # of one step; a chain needs no splits
        dots = self.places * self.code.tile.vectors * self.machine.sums
        return max([n for n in (2, 4, 8, 16) if n * dots <= BODY], default=1)

    def _run(self, acc: Registers, x: Expr, weights: Expr, steps: int) -> None:
        """All dots of one run, splits in turn."""
        code, packing = self.code, self.code.packing
        turn = max(self._turn, unit_steps(packing.bits))
        looped = 0 if steps <= UNROLLED_STEPS else steps // turn
        row, turn_rows = code.row_pitch, packed_rows(packing.bits, turn)
        if looped:
            with self.writer.loop(0, looped, "k") as k:
                from_x = x + k * (self.machine.depth * turn // self.words.size)
                self._steps(acc, turn, from_x, weights + k * turn_rows * row)
        looped_steps = looped * turn
        rest = weights + looped * turn_rows * row
        self._steps(acc, steps - looped_steps, x, rest, looped_steps * self.machine.depth)

    def _chains(self, acc: Registers, x: Expr, weights: Expr, steps: int) -> None:
        """All dots of one run, added up in int16 as often as that is exact."""
        packing, row = self.code.packing, self.code.row_pitch
        span = max(packing.chain, unit_steps(packing.bits))  # weights can be cut at units only
        bytes_of_x, rows = self.machine.depth * span, packed_rows(packing.bits, span)
        full_chains = steps // span
        if full_chains:
            with self.writer.steps(full_chains, "chain") as c:
                self._chain(acc, x + c * bytes_of_x, weights + c * (rows * row), span)
        if steps % span:
            rest = weights + full_chains * rows * row
            self._chain(acc, x + full_chains * bytes_of_x, rest, steps % span)

    def _chain(self, acc: Registers, x: Expr, weights: Expr, steps: int) -> None:
        self._clear_links()
        self.chained = acc
        self._run(self.links, x, weights, steps)
        self._widen()

    def _clear_links(self) -> None:
        for i in range(self.places * self.code.tile.vectors * self.machine.sums):
            self.links[i] = splat(0, "int16", 2 * self.dot.lanes)

    def _widen(self) -> None:
        """Adds the int16 sums to the accumulators."""
        dot, vectors = self.dot, self.code.tile.vectors
        one = splat(1, "int16", 2 * self.dot.lanes)
        for i in range(self.places * vectors):
            mult = self.mults[i % vectors] if self.code.packing.block else one
            links = [self.links[i * self.machine.sums + s] for s in range(self.machine.sums)]
            self.chained[i] = dot.widened(self.chained[i], links, mult)

    def _steps(self, acc: Registers, count: int, x: Expr, weights: Expr, ahead: int = 0) -> None:
        """`count` dots written out, from `ahead` bytes after x on.

        X is loaded for several at once where the machine can.
        """
        together, weights_of = self.machine.together, self.panel.stretch(weights, count)
        groups = range(0, self.code.tile.places, self.machine.rows)
        at = 0
        while at < count:
            size = together if count - at >= together else 1
            first = ahead + at * self.machine.depth
            spreads: Iterable[list[list[Expr]]] = (
                self._spread(x, first, group, size) for group in groups
            )
            if size > 1:
                spreads = list(spreads)
            for i in range(size):
                forms = (spread[i] for spread in spreads)
                if self.code.packing.chain and at + i and (at + i) % self.code.packing.chain == 0:
                    self._widen()
                    self._clear_links()
                self._step(acc, (at + i) % self.code.tile.splits, forms, weights_of(at + i))
            at += size

    def _spread(self, x: Expr, ahead: int, place: int, count: int) -> list[list[Expr]]:
        """The operand forms of `count` steps, for the pixels from `place` on that share them."""
        code, let = self.code, self.writer.let
        rows = [min(row, code.tile.places - 1) for row in range(place, place + self.machine.rows)]
        offsets = [ahead + self._place(code.x, row, code.strides) for row in rows]
        chunks = [c for offset in offsets for c in self.words.chunks(x, offset, count)]
        if self.machine.weight_offset:
            self.sums[place] = self.dot.summed(self.sums[place], chunks)
        spreads = self.dot.spreads(chunks, count, self.machine.x or code.x.dtype)
        return [[let(form, "x") for form in forms] for forms in spreads]

    def _step(
        self,
        acc: Registers,
        split: int,
        spreads: Iterable[list[Expr]],
        weights: list[list[Expr]],
    ) -> None:
        """One dot of every accumulator; `spreads` are generated lazily."""
        vectors, machine = self.code.tile.vectors, self.machine
        for group, forms in enumerate(spreads):
            for v in range(vectors):
                first = split * self.places + group * machine.rows
                shared = [(first + i) * vectors + v for i in range(machine.rows)]
                if self.code.packing.chain:  # acc are the links, several for each accumulator
                    for s, pairs in enumerate(self.dot.paired(forms, weights[v])):
                        at = shared[0] * self.machine.sums + s
                        acc[at] = acc[at] + pairs
                    continue
                sums = self.dot.steps([acc[i] for i in shared], forms, weights[v])
                for i, value in zip(shared, sums, strict=True):
                    acc[i] = value

    def _finish(self, at: WorkUnit, acc: list[Expr]) -> None:
        code, lanes = self.code, self.dot.lanes
        if self.tail is not None:
            self.tail.finish(self.epilogue, self.y, at, acc)
            return
        stores = Stores(self.writer, self.y, at.y, self.epilogue)
        share = code.share
        for p in range(code.tile.places):
            epilogue = self._epilogue(p)
            for v in range(code.tile.vectors):
                offset = self._place(code.y, p) + at.channels[v]
                residual = self._residual(at, p, v)
                record = at.records + v * (code.spacing * code.record_bytes)
                value = epilogue.requantize(acc[p * code.tile.vectors + v], record, residual)
                count = lanes if code.packing.by_vector else share - v * lanes
                stores.add(value, offset, min(lanes, count, share))
        stores.flush()

    def _epilogue(self, place: int) -> VectorEpilogue:
        """For one pixel. Constants are loaded anew where instructions would overwrite registers."""
        if place == 0 or not self.code.epilogue.fused:
            return self.epilogue
        return replace(self.epilogue, constants=self.writer.anew(self.pointers[1]))

    def _residual(self, at: WorkUnit, p: int, v: int) -> Expr:
        if self.residual is None:
            return None
        lanes = self.dot.lanes
        assert self.code.residual is not None
        at_pixel = at.residual + self._place(self.code.residual, p) + at.channels[v]
        size = lanes
        if self.machine.aligned:  # such machines take vectors whole, or byte by byte
            size = self.machine.vector_bytes
        residual = self.writer.load(self.residual, at_pixel, size)
        if size > lanes:
            residual = shuffle([residual], range(lanes))
        return self.writer.let(cast(residual, "int32", lanes), "r")


def emit_dense(code: DenseCode, symbol: str) -> PrimFunc:
    """`void symbol(x, weights, constants, [residual,] y, begin, end)`."""
    return _Dense(code).build(symbol)
