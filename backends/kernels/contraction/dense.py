"""Dense and grouped contractions on a dot instruction: the code that computes one.

Channels are cut into panels of `tile.vectors` vectors, pixels into tiles of `tile.rows` x
`tile.pixels`; the last panel, and the last tile across and down, move back until they fit. One unit
of work is one tile of one panel. The sum runs over `runs` stretches of adjacent bytes of X, each
padded with zero weights to whole dots, whose weights are rows as in `bits.py`.
A machine that widens weights does so once for all units of a panel that it does in one go.
Weights and constants are laid out by `qir.backends.kernels.contraction.panels`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qir.backends.kernels.contraction.bits import packed_rows
from qir.backends.kernels.contraction.spec import ContractionSpec, RowTail, arguments
from qir.backends.kernels.contraction.tiling import (
    Tile,
    Work,
    choose_tile,
    fits_held,
    is_worth_holding,
    streaming_tile,
    tile_of_any_rows,
)
from qir.backends.kernels.dots import DOTS, Dot
from qir.backends.kernels.plane import Plane, check_indices
from qir.backends.kernels.requantize.epilogue import Epilogue


@dataclass(frozen=True)
class Runs:
    """`rows` x `columns` stretches of `length` adjacent elements of X, a pitch apart.

    Each is cut into parts of `part` elements, the last one shorter; 0: into none.
    """

    rows: int
    columns: int
    length: int
    pitch_y: int
    pitch_x: int
    part: int = 0

    @property
    def taps(self) -> int:
        return self.rows * self.columns

    @property
    def parts(self) -> tuple[int, ...]:
        """The elements of each part of a stretch."""
        if not self.part:
            return (self.length,)
        full_parts, rest = divmod(self.length, self.part)
        return (self.part,) * full_parts + ((rest,) if rest else ())


@dataclass(frozen=True)
class Packing:
    """How weights are kept, and how their products are added up.

    bits        of a weight
    block       adjacent input channels that share a multiplier; 0: there are no multipliers
    chain       steps whose sums of two products are added in int16 before they are widened; 0:
                none, an instruction adds up to int32
    by_vector   each vector of channels has memory of its own, one after the other in the order of
                channels, whatever the tile; the last one moves back until it fits
    """

    bits: int = 8
    block: int = 0
    chain: int = 0
    by_vector: bool = False


@dataclass(frozen=True)
class DenseCode:
    """Everything the machine code of a dense contraction depends on.

    `aligned`: every word of X that a dot reads lies at a multiple of its size. `spacing`: from a
    vector of a panel to the next, in vectors of channels; where they lie apart, more than one makes
    as many long streams as the panel has vectors, which keep more of a memory busy than one does.
    `rows`: what raw sums become; `residual_shift` is that of its residual.
    """

    dot: str
    x: Plane
    y: Plane
    residual: Plane | None
    strides: tuple[int, int]
    groups: int
    runs: Runs
    tile: Tile
    epilogue: Epilogue
    aligned: bool = False
    packing: Packing = Packing()
    spacing: int = 1
    rows: RowTail | None = None
    residual_shift: int = 0

    def __post_init__(self) -> None:
        record_bytes = self.vectors * self.record_bytes
        check_indices("contraction: bytes of the constants", self.records_at + record_bytes)
        check_indices("contraction: bytes of the weights", self.weight_bytes)
        check_indices("contraction: units of work", self.units + self.panel_units)

    @property
    def arguments(self) -> tuple[str, ...]:
        if self.rows is not None:
            return arguments(self.rows.residual is not None, True)
        return arguments(self.residual is not None)

    @property
    def machine(self) -> Dot:
        return DOTS[self.dot]

    @property
    def together(self) -> int:
        """Vectors of a panel in memory."""
        return 1 if self.packing.by_vector else self.tile.vectors

    def steps(self, part: int) -> int:
        """Dots along one part of a run."""
        return -(-part // self.machine.depth)

    def part_rows(self, part: int) -> int:
        """Rows of weights of one part of a run."""
        return packed_rows(self.packing.bits, self.steps(part))

    @property
    def run_rows(self) -> int:
        return sum(self.part_rows(part) for part in self.runs.parts)

    @property
    def share(self) -> int:
        """Output channels of a group."""
        return self.y.channels // self.groups

    @property
    def group_panels(self) -> int:
        return -(-self.share // (self.tile.vectors * self.machine.lanes))

    @property
    def group_vectors(self) -> int:
        """Vectors of channels of a group in memory: those of every panel, or once where apart."""
        if self.packing.by_vector:
            return -(-self.share // self.machine.lanes)
        return self.group_panels * self.tile.vectors

    @property
    def vectors(self) -> int:
        return self.groups * self.group_vectors

    @property
    def panels(self) -> int:
        return self.group_panels * self.groups

    @property
    def vector_bytes(self) -> int:
        """Of one vector of channels in a row."""
        return self.machine.forms * self.machine.weight_bytes

    @property
    def row_pitch(self) -> int:
        """Bytes from a row of weights to the next."""
        return self.vector_bytes * self.together

    @property
    def panel_pitch(self) -> int:
        """Bytes of a panel's weights, one after the other."""
        return self.tile.vectors * self.weights_of_one

    @property
    def vector_pitch(self) -> int:
        """Bytes from the weights of a vector of a panel to those of its next."""
        if not self.packing.by_vector:
            return self.vector_bytes
        return self.spacing * self.weights_of_one

    @property
    def weights_of_one(self) -> int:
        """Bytes of the weights of one vector of channels."""
        return self.runs.taps * self.run_rows * self.vector_bytes

    @property
    def weight_bytes(self) -> int:
        return self.vectors * self.weights_of_one

    @property
    def mult_bytes(self) -> int:
        """Multipliers of one vector of channels."""
        if not self.packing.block:
            return 0
        return self.runs.taps * len(self.runs.parts) * self.machine.lanes

    @property
    def mult_pitches(self) -> tuple[int, int]:
        """From a multiplier of a vector of a panel to that of its next group, and next vector."""
        lanes = self.machine.lanes
        if self.packing.by_vector:
            return lanes, self.spacing * self.mult_bytes
        return self.tile.vectors * lanes, lanes

    @property
    def record_bytes(self) -> int:
        return self.epilogue.record_bytes(self.machine.lanes)

    @property
    def shared_at(self) -> int:
        """Where what all channels have begins in the constants."""
        return self._aligned(self.vectors * self.mult_bytes)

    @property
    def records_at(self) -> int:
        """Where the records begin in the constants."""
        return self._aligned(self.shared_at + 4 * len(self.rows.shared if self.rows else ()))

    def _aligned(self, size: int) -> int:
        """The next multiple of 8 bytes or a whole vector."""
        unit = max(self.machine.vector_bytes, 8)
        return -(-size // unit) * unit

    @property
    def row_tiles(self) -> int:
        return -(-self.y.width // self.tile.pixels)

    @property
    def column_tiles(self) -> int:
        return -(-self.y.height // self.tile.rows)

    @property
    def panel_units(self) -> int:
        return self.y.batch * self.column_tiles * self.row_tiles

    @property
    def units(self) -> int:
        return self.panels * self.panel_units


def runs_of(spec: ContractionSpec, block: int = 0) -> Runs:
    """As few and as long runs as the layout of X, and multipliers for `block` channels, allow."""
    (ky, kx), (dy, dx), x = spec.kernel, spec.dilations, spec.x
    inner = x.channels // spec.groups
    if block or spec.groups > 1 or (kx > 1 and (dx > 1 or x.pitch_x != x.channels)):
        return Runs(ky, kx, inner, dy * x.pitch_y, dx * x.pitch_x, min(block, inner))
    if ky > 1 and dy == 1 and x.pitch_y == kx * x.channels:
        return Runs(1, 1, ky * kx * inner, 0, 0)
    return Runs(ky, 1, kx * inner, dy * x.pitch_y, 0)


def plan_dense(
    spec: ContractionSpec,
    epilogue: Epilogue,
    dot: Dot,
    tile: Tile | None = None,
    packing: Packing | None = None,
    residual_shift: int = 0,
) -> DenseCode:
    """The code for a contraction whose pixels are joined; its tile is chosen unless given.

    Weights lie apart where one pixel reads each of them once: then memory is what takes time; and
    where other numbers of rows have the same weights. A machine on which more addresses cost
    instructions gets panels that do not depend on the number of rows instead.
    """
    packing = packing or Packing()
    runs = runs_of(spec, packing.block)
    work = _work(spec, runs, dot, packing)
    is_read_once = work.images == work.height == work.width == 1
    is_apart = not dot.counts and (is_read_once or spec.any_rows)
    spacing = 1
    if is_apart:
        packing = replace(packing, by_vector=True)
    if is_apart and is_read_once:
        tile = tile or streaming_tile(dot, work)
        panels = work.vectors // tile.vectors
        spacing = panels if panels * tile.vectors == work.vectors else 1
    elif tile is None and spec.any_rows:
        tile = tile_of_any_rows(dot, work)
    tile = tile or choose_tile(dot, work)
    aligned = dot.aligned and _words_align(spec, runs, dot)
    return DenseCode(
        dot.name, spec.x, spec.y, spec.residual, spec.strides, spec.groups, runs, tile, epilogue,
        aligned, packing, spacing, spec.rows, residual_shift
    )  # fmt: skip


def can_hold(spec: ContractionSpec, dot: Dot, packing: Packing) -> bool:
    """A dot that widens weights takes whole bytes, of panels that fit and that pixels share."""
    if not dot.widens:
        return True
    work = _work(spec, runs_of(spec), dot, packing)
    is_plain = packing.bits == 8 and not packing.block
    return is_plain and fits_held(dot, work) and is_worth_holding(work)


def _work(spec: ContractionSpec, runs: Runs, dot: Dot, packing: Packing) -> Work:
    y, steps = spec.y, [-(-part // dot.depth) for part in runs.parts]
    return Work(
        y.batch * spec.groups,
        y.height,
        y.width,
        vectors=-(-y.channels // spec.groups // dot.lanes),
        steps=sum(steps) * runs.taps,
        run=steps[0],
        bits=packing.bits,
        chain=packing.chain,
        scalings=len(steps) * runs.taps if packing.block else 0,
    )


def _words_align(spec: ContractionSpec, runs: Runs, dot: Dot) -> bool:
    """X and all offsets in it are multiples of the words that a dot loads, of 8 bytes at most."""
    x, size = spec.x, 4 if dot.together == 1 else 8
    share = x.channels // spec.groups if spec.groups > 1 else 0
    part = runs.part if len(runs.parts) > 1 else 0
    offsets = (x.pitch_n, x.pitch_y, x.pitch_x * spec.strides[1], runs.pitch_x, share, part)
    return all(offset % size == 0 for offset in (spec.alignment, *offsets))
