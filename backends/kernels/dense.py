"""Dense and grouped contractions on a dot instruction: the code, and how its constants are packed.

Channels are cut into panels of `tile.vectors` vectors, pixels into tiles of `tile.rows` x
`tile.pixels`; the last panel, and the last tile across and down, move back until they fit. One unit
of work is one tile of one panel. The sum runs over `runs` stretches of adjacent bytes of X, each
padded with zero weights to whole dots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction import Array, Contraction, arguments
from qir.backends.kernels.dots import DOTS, Dot
from qir.backends.kernels.epilogue import Channels, Epilogue, records
from qir.backends.kernels.plane import Plane
from qir.backends.kernels.tiling import Tile, Work, choose_tile


@dataclass(frozen=True)
class Runs:
    """`rows` x `columns` stretches of `length` adjacent elements of X, a pitch apart."""

    rows: int
    columns: int
    length: int
    pitch_y: int
    pitch_x: int


@dataclass(frozen=True)
class DenseCode:
    """Everything the machine code of a dense contraction depends on.

    `aligned`: every word of X that a dot reads lies at a multiple of its size.
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

    @property
    def arguments(self) -> tuple[str, ...]:
        return arguments(self.residual is not None)

    @property
    def machine(self) -> Dot:
        return DOTS[self.dot]

    @property
    def steps(self) -> int:
        """Dots along one run."""
        return -(-self.runs.length // self.machine.depth)

    @property
    def total_steps(self) -> int:
        return self.steps * self.runs.rows * self.runs.columns

    @property
    def group_panels(self) -> int:
        return -(-self.y.channels // self.groups // (self.tile.vectors * self.machine.lanes))

    @property
    def step_bytes(self) -> int:
        return self.tile.vectors * self.machine.forms * self.machine.weight_bytes

    @property
    def panel_bytes(self) -> int:
        return self.total_steps * self.step_bytes

    @property
    def record_bytes(self) -> int:
        return self.epilogue.record_bytes(self.machine.lanes)

    @property
    def records_at(self) -> int:
        """Where the records begin, at a multiple of 8 bytes or a whole vector."""
        unit = max(self.machine.vector_bytes, 8)
        return -(-self.panel_bytes * self.group_panels * self.groups // unit) * unit

    @property
    def row_tiles(self) -> int:
        return -(-self.y.width // self.tile.pixels)

    @property
    def column_tiles(self) -> int:
        return -(-self.y.height // self.tile.rows)

    @property
    def units(self) -> int:
        panels = self.group_panels * self.groups
        return panels * self.y.batch * self.column_tiles * self.row_tiles


def runs_of(spec: Contraction) -> Runs:
    """As few and as long runs as the layout of X allows."""
    (ky, kx), (dy, dx), x = spec.kernel, spec.dilations, spec.x
    inner = x.channels // spec.groups
    if spec.groups > 1 or (kx > 1 and (dx > 1 or x.pitch_x != x.channels)):
        return Runs(ky, kx, inner, dy * x.pitch_y, dx * x.pitch_x)
    if ky > 1 and dy == 1 and x.pitch_y == kx * x.channels:
        return Runs(1, 1, ky * kx * inner, 0, 0)
    return Runs(ky, 1, kx * inner, dy * x.pitch_y, 0)


def plan_dense(
    spec: Contraction, epilogue: Epilogue, dot: Dot, tile: Tile | None = None
) -> DenseCode:
    """The code for a contraction whose pixels are joined; its tile is chosen unless given."""
    runs = runs_of(spec)
    vectors = -(-spec.y.channels // spec.groups // dot.lanes)
    run = -(-runs.length // dot.depth)
    images = spec.y.batch * spec.groups
    work = Work(images, spec.y.height, spec.y.width, vectors, run * runs.rows * runs.columns, run)
    tile = tile or choose_tile(dot, work)
    aligned = dot.aligned and _words_align(spec, runs, dot)
    return DenseCode(
        dot.name,
        spec.x,
        spec.y,
        spec.residual,
        spec.strides,
        spec.groups,
        runs,
        tile,
        epilogue,
        aligned,
    )


def _words_align(spec: Contraction, runs: Runs, dot: Dot) -> bool:
    """X and all offsets in it are multiples of the words that a dot loads, of 8 bytes at most."""
    x, size = spec.x, 4 if dot.together == 1 else 8
    share = x.channels // spec.groups if spec.groups > 1 else 0
    offsets = (x.pitch_n, x.pitch_y, x.pitch_x * spec.strides[1], runs.pitch_x, share)
    return all(offset % size == 0 for offset in (spec.alignment, *offsets))


def pack_dense(code: DenseCode, weights: Array, channels: Channels) -> bytes:
    """The constants block: weight panels, then one epilogue record for each vector of channels."""
    return _weights(code, weights).ljust(code.records_at, b"\0") + records(
        code.epilogue, channels, _order(code), code.machine.lanes
    )


def _order(code: DenseCode) -> Array:
    """(vectors, lanes) -> output channel, or -1 past the channels of a group."""
    share, width = code.y.channels // code.groups, code.tile.vectors * code.machine.lanes
    starts = np.minimum(np.arange(code.group_panels) * width, max(share - width, 0))
    local = (starts[:, None] + np.arange(width)).reshape(-1)
    order = local + np.arange(code.groups)[:, None] * share
    return np.where(local < share, order, -1).reshape(-1, code.machine.lanes)


def _weights(code: DenseCode, weights: Array) -> bytes:
    """[panel][run][step][vector][form][lane][k] from (O, ky, kx, I)."""
    dot, runs = code.machine, code.runs
    flat = np.asarray(weights, np.int8).reshape(
        code.y.channels, runs.rows * runs.columns, runs.length
    )
    padded = np.zeros((*flat.shape[:2], code.steps * dot.depth), np.int8)
    padded[:, :, : runs.length] = flat
    order = _order(code).reshape(-1)
    lanes = np.where(order[:, None, None] >= 0, padded[np.maximum(order, 0)], np.int8(0))
    panels = code.group_panels * code.groups
    blocked = lanes.reshape(
        panels, code.tile.vectors, dot.lanes, flat.shape[1], code.steps, dot.depth
    )
    blocked = blocked.transpose(0, 3, 4, 1, 2, 5)
    if dot.weight_offset:
        return np.ascontiguousarray(
            blocked.astype(np.int16) + dot.weight_offset, np.uint8
        ).tobytes()
    if dot.weight_item == 2:  # the first and the second pair of each four, as int16
        pairs = blocked.reshape(*blocked.shape[:-1], 2, 2).astype("<i2")
        return np.ascontiguousarray(np.moveaxis(pairs, -2, -3)).tobytes()
    return np.ascontiguousarray(blocked).tobytes()
