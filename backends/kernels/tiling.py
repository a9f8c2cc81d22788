"""Chooses how many pixels and channel vectors one tile of a dense contraction holds, by counting cycles."""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.dots import Dot

LOADS_PER_CYCLE = 2.0
EPILOGUE_CYCLES = 4.0  # per accumulator vector: two multiplies, two adds, shifts, a merge, packs
TILE_CYCLES = 16.0  # entering and leaving a tile
FIRST_LEVEL_BYTES = 28 * 1024  # weights beyond this come from the second-level cache
SECOND_LEVEL_BYTES_PER_CYCLE = 24.0


@dataclass(frozen=True)
class Tile:
    """`pixels` x `vectors` accumulators, each split `splits` ways along the sum to hide the dot's latency."""

    pixels: int
    vectors: int
    splits: int = 1


def choose_tile(dot: Dot, width: int, rows: int, vectors: int, steps: int) -> Tile:
    """The cheapest tile for `rows` rows of `width` pixels, `vectors` vectors of channels, `steps` dots a sum."""
    best: tuple[float, int, Tile] | None = None
    for count in range(1, min(vectors, 6) + 1):
        for pixels in range(1, min(width, 28) + 1):
            tile = Tile(pixels, count, _splits(dot, pixels, count, steps))
            if _registers(dot, tile) > dot.registers:
                continue
            tiles = rows * -(-width // pixels) * -(-vectors // count)
            key = (tiles * _cycles(dot, tile, steps), -pixels * count, tile)
            if best is None or key[:2] < best[:2]:
                best = key
    assert best is not None
    return best[2]


def _splits(dot: Dot, pixels: int, vectors: int, steps: int) -> int:
    for splits in (1, 2, 4):
        enough = pixels * vectors * splits >= dot.latency * dot.rate
        if (
            enough
            or 2 * splits * 2 > steps
            or _registers(dot, Tile(pixels, vectors, 2 * splits)) > dot.registers
        ):
            return splits
    return 4


def _registers(dot: Dot, tile: Tile) -> int:
    weights = tile.vectors * dot.forms if tile.pixels > 1 else 0
    return tile.pixels * tile.vectors * tile.splits + weights + dot.forms + dot.temporaries


def _cycles(dot: Dot, tile: Tile, steps: int) -> float:
    panel = steps * tile.vectors * dot.forms * dot.vector_bytes
    far = panel / steps / SECOND_LEVEL_BYTES_PER_CYCLE if panel > FIRST_LEVEL_BYTES else 0.0
    step = max(
        tile.pixels * tile.vectors / dot.rate,
        (tile.pixels + tile.vectors * dot.forms) / LOADS_PER_CYCLE,
        dot.latency / tile.splits,
        far,
    )
    return steps * step + tile.pixels * tile.vectors * EPILOGUE_CYCLES + TILE_CYCLES
