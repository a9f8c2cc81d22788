"""Chooses how many pixels and channel vectors one tile of a contraction holds, counting cycles."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qir.backends.kernels.contraction.bits import PLANES
from qir.backends.kernels.dots import Dot

LOADS_PER_CYCLE = 2.0
EPILOGUE_CYCLES = 4.6  # per accumulator vector: two multiplies, two adds, shifts, a merge, packs
TILE_CYCLES = 16.0  # entering and leaving a tile
EPILOGUE_INSTRUCTIONS, TILE_INSTRUCTIONS = 9.0, 50.0  # the same in instructions
FIRST_LEVEL_BYTES = 28 * 1024  # weights beyond this come from the second-level cache
SECOND_LEVEL_BYTES_PER_CYCLE = 16.0
VECTOR_BYTES = 32 * 1024  # of widened weights, of one vector of channels, on the stack
HELD_BYTES = 96 * 1024  # of those of a panel: a part of a second-level cache
HELD_PIXELS = 8  # fewer do not make up for the widening
STREAMS = 4  # with two, or one, a core waits for its memory; eight read no faster
MANY_ROWS = 64  # more change no tile
UNROLLED_STEPS = 8  # runs this short have no loop
UNROLLED_SPARE = 5  # registers LLVM fills with loads of later steps where there is no loop

UNPACKING = 2.7  # instructions to take one plane out of a vector of weights, on average
UNPACKING_CYCLES = 1.2  # the same where several are done in a cycle
CHAINED_CYCLES, CHAINED_SPREAD = 0.8, 0.5  # a step added up in int16; a word of X for all vectors
CHAINED_REGISTERS = 14  # accumulators in int16 by one plane; those in int32 may wait in memory,
SHORT_CHAIN = 4  # unless shorter chains than this ask for them all the time
SCALING = 2.0  # instructions, or about as many cycles, to multiply a part of an accumulator


@dataclass(frozen=True)
class Tile:
    """`rows` x `pixels` x `vectors` accumulators, each in `splits` parts to hide latency."""

    pixels: int
    vectors: int
    splits: int = 1
    rows: int = 1

    @property
    def places(self) -> int:
        return self.rows * self.pixels


@dataclass(frozen=True)
class Work:
    """Images of height x width pixels, vectors of channels, dots of a sum and of one run.

    `bits`, `chain`: as in `dense.Packing`; `scalings`: multiplications of a
    part of a sum by a group's multiplier.
    """

    images: int
    height: int
    width: int
    vectors: int
    steps: int
    run: int
    bits: int = 8
    chain: int = 0
    scalings: int = 0

    @property
    def planes(self) -> int:
        """The bit planes of weights; none where they are bytes."""
        return len(PLANES[self.bits]) if self.bits < 8 else 0

    @property
    def linked(self) -> int:
        """Steps of a chain that does not outlast its run."""
        return min(self.chain, self.run)


def tile_of_any_rows(dot: Dot, work: Work) -> Tile:
    """A tile with as many vectors as are best for many rows, where they are in one line."""
    if dot.counts and work.images == work.height == 1:
        many = choose_tile(dot, replace(work, width=MANY_ROWS))
        return choose_tile(dot, work, many.vectors)
    return choose_tile(dot, work)


def choose_tile(dot: Dot, work: Work, vectors_of_all: int = 0) -> Tile:
    """The cheapest tile; several rows only where a tile holds whole rows.

    `vectors_of_all`: how many vectors it has, if that is given.
    """
    best: tuple[float, int] | None = None
    best_tile = Tile(1, vectors_of_all or 1)
    most_vectors = vectors_of_all or min(work.vectors, 8 if dot.counts else 6)
    for vectors in range(vectors_of_all or 1, most_vectors + 1):
        for pixels in range(1, min(work.width, dot.most_places) + 1):
            most = min(work.height, dot.most_places // pixels) if pixels == work.width else 1
            for rows in range(1, most + 1):
                tile = _with_splits(dot, Tile(pixels, vectors, 1, rows), work)
                if _registers(dot, tile, work) > dot.registers or not fits_held(dot, work, vectors):
                    continue
                key = (_tiles(tile, work) * _cycles(dot, tile, work), -tile.places * vectors)
                if best is None or key < best:
                    best, best_tile = key, tile
    return best_tile


def fits_held(dot: Dot, work: Work, vectors: int = 1) -> bool:
    """A panel's weights fit where they are kept after they were widened, if they are at all."""
    size = work.steps * dot.operands * dot.vector_bytes
    return not dot.widens or (size <= VECTOR_BYTES and size * vectors <= HELD_BYTES)


def is_worth_holding(work: Work) -> bool:
    """Enough pixels share the weights of a panel to widen them first."""
    return work.images * work.height * work.width >= HELD_PIXELS


def streaming_tile(dot: Dot, work: Work) -> Tile:
    """For one pixel and weights that lie apart: as many streams as keep a memory busy."""
    panels = -(-work.vectors // STREAMS)
    return _with_splits(dot, Tile(1, -(-work.vectors // panels)), work)


def _tiles(tile: Tile, work: Work) -> int:
    across = -(-work.height // tile.rows) * -(-work.width // tile.pixels)
    return work.images * across * -(-work.vectors // tile.vectors)


def _with_splits(dot: Dot, tile: Tile, work: Work) -> Tile:
    while tile.splits < 4:
        wider = replace(tile, splits=2 * tile.splits)
        hides_latency = tile.places * tile.vectors * tile.splits >= dot.latency * dot.rate
        if (
            hides_latency
            or 2 * wider.splits > work.run
            or _registers(dot, wider, work) > dot.registers
        ):
            break
        tile = wider
    return tile


def _registers(dot: Dot, tile: Tile, work: Work) -> int:
    weights = tile.vectors * dot.operands if tile.places > 1 else 0
    if work.chain:
        sets = 2 if work.linked < SHORT_CHAIN and work.steps > work.run else 1
        budget = CHAINED_REGISTERS - 4 * max(work.planes - 1, 0)
        return sets * dot.sums * tile.places * tile.vectors + dot.registers - budget
    spare = (
        UNROLLED_SPARE if work.run <= UNROLLED_STEPS < dot.registers // 2 and tile.places > 1 else 0
    )
    places = -(-tile.places // dot.rows) * dot.rows
    if dot.x_registers:  # X of all places is loaded before the first dot
        return places * (tile.vectors * tile.splits + dot.x_registers) + weights + dot.temporaries
    return places * tile.vectors * tile.splits + weights + dot.operands + dot.temporaries + spare


def _cycles(dot: Dot, tile: Tile, work: Work) -> float:
    step_bytes = tile.vectors * dot.operands * dot.weight_bytes * work.bits / 8
    places = -(-tile.places // dot.rows) * dot.rows
    fetch_cycles = (
        step_bytes / SECOND_LEVEL_BYTES_PER_CYCLE
        if step_bytes * work.steps > FIRST_LEVEL_BYTES
        else 0.0
    )
    scaled = work.scalings * places * tile.vectors * SCALING
    if dot.counts:
        fetch = dot.fetch * work.bits / 8 + UNPACKING * work.planes
        moves = places * dot.spread + tile.vectors * dot.operands * fetch
        step = places // dot.rows * tile.vectors * dot.operands / dot.rate + moves
        ends = tile.places * tile.vectors * EPILOGUE_INSTRUCTIONS
        return work.steps * step + scaled + ends + TILE_INSTRUCTIONS
    each, spread = 1 / dot.rate, dot.spread
    if work.chain:
        each = dot.sums * CHAINED_CYCLES * (1 + 1 / work.linked)
        spread = CHAINED_SPREAD + dot.spread
        scaled /= 4  # multiplied where the chain is widened
    step = max(
        places * (tile.vectors * each + spread) + tile.vectors * work.planes * UNPACKING_CYCLES,
        (tile.places + tile.vectors * dot.operands) / LOADS_PER_CYCLE,
        dot.latency / tile.splits,
        fetch_cycles,
    )
    ends = tile.places * tile.vectors * EPILOGUE_CYCLES + TILE_CYCLES
    return work.steps * step + scaled + ends
