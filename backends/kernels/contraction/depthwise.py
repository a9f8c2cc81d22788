"""Depthwise convolutions on a dot instruction: taps of a channel are brought together four by four.

A chunk is as many adjacent channels as a vector has bytes. Unpacking four vectors of bytes, one for
each tap, gives four vectors whose int32 lanes hold four taps of one channel: in blocks of 16 bytes
lane (q, e) of vector j is channel 16 q + 4 j + e of the chunk, the order from which two packs
restore the channels; a machine that interleaves whole vectors has the channels in order. Where
rows of X and Y have no gaps and the stride along x is 1, chunks run over pixels; else a chunk is
inside one pixel, or spans `pixels` of them. One unit of work is `rows` rows of Y; the last unit
moves up until it fits.

Weights of fewer than 8 bits are packed in bit planes, a vector a step, and unpacked once for all
chunks of a row that share them. Those of the second of two rows are not kept: they are those of the
first, moved up by one tap. A machine that widens weights does so once in each call, for all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.bits import pack, packed_rows
from qir.backends.kernels.contraction.spec import Array, ContractionSpec, arguments
from qir.backends.kernels.dots import DOTS, Dot
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import Plane, check_indices
from qir.backends.kernels.requantize.epilogue import ChannelConstants, Epilogue, records

Tap = tuple[int, int]

HELD_BYTES = 64 * 1024  # of widened weights, on the stack: those of 1344 channels of 3x3


@dataclass(frozen=True)
class DepthwiseCode:
    """Everything the machine code of a depthwise convolution depends on.

    `along_row`: chunks run over pixels. `rows`: rows of Y made from the same unpacked vectors.
    `bits`: of one weight.
    """

    dot: str
    x: Plane
    y: Plane
    residual: Plane | None
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    epilogue: Epilogue
    along_row: bool
    pixels: int
    rows: int
    bits: int = 8

    def __post_init__(self) -> None:
        record_bytes = len(self.starts) * 4 * self.record_bytes
        check_indices("contraction: bytes of the constants", record_bytes)
        check_indices("contraction: bytes of the weights", self.weight_bytes)

    @property
    def arguments(self) -> tuple[str, ...]:
        return arguments(self.residual is not None)

    @property
    def machine(self) -> Dot:
        return DOTS[self.dot]

    @property
    def row_units(self) -> int:
        return -(-self.y.height // self.rows)

    @property
    def units(self) -> int:
        return self.y.batch * self.row_units

    @property
    def stretch(self) -> int:
        """Adjacent elements of Y that chunks are cut from."""
        if self.along_row:
            return self.y.width * self.y.channels
        return self.pixels * self.y.channels

    @property
    def chunks(self) -> int:
        """Chunks of a stretch; the last one moves back until it fits."""
        return -(-self.stretch // self.machine.vector_bytes)

    @property
    def count(self) -> int:
        """Elements of a chunk that exist."""
        return min(self.stretch, self.machine.vector_bytes)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first element in its stretch of one chunk for each set of constants."""
        size = self.machine.vector_bytes
        period = math.lcm(self.y.channels, size) // size
        last = self.stretch - self.count
        starts = [min(i * size, last) for i in range(min(self.chunks, period))]
        if self.chunks > period and last % self.y.channels not in [
            s % self.y.channels for s in starts
        ]:
            starts.append(last)
        return tuple(starts)

    @property
    def period(self) -> int:
        """Chunk i uses set i mod `period`, but the last chunk `last_set`."""
        return min(
            self.chunks,
            math.lcm(self.y.channels, self.machine.vector_bytes) // self.machine.vector_bytes,
        )

    @property
    def last_set(self) -> int:
        phases = [start % self.y.channels for start in self.starts]
        return phases.index((self.stretch - self.count) % self.y.channels)

    @property
    def groups(self) -> tuple[tuple[Tap, ...], ...]:
        """Taps of X unpacked together, from the first row of the unit; at most four each."""
        (ky, kx), deep = self.kernel, self.machine.depth
        if self.rows > 1:
            return tuple(tuple((y, x) for y in range(ky + self.rows - 1)) for x in range(kx))
        taps = [(y, x) for y in range(ky) for x in range(kx)]
        return tuple(tuple(taps[i : i + deep]) for i in range(0, len(taps), deep))

    @property
    def steps(self) -> int:
        """Vectors of the weights of one set, a byte each: [group][row][vector]."""
        rows = self.rows if self.bits == 8 else 1
        return len(self.groups) * rows * 4

    @property
    def set_bytes(self) -> int:
        """Of the packed weights of one set."""
        return packed_rows(self.bits, self.steps) * self.machine.vector_bytes

    @property
    def widens_first(self) -> bool:
        """Widened weights, of which each takes two bytes, are kept for a whole call."""
        fits = 2 * self.weight_bytes <= HELD_BYTES
        return self.machine.widens and self.bits == 8 and fits

    @property
    def record_bytes(self) -> int:
        return self.epilogue.record_bytes(self.machine.lanes)

    @property
    def weight_bytes(self) -> int:
        return len(self.starts) * self.set_bytes


def plan_depthwise(
    spec: ContractionSpec, epilogue: Epilogue, dot: Dot, bits: int = 8
) -> DepthwiseCode:
    """Along rows if their layout allows, two rows at once if that is less work."""
    x, y, sx = spec.x, spec.y, spec.strides[1]
    gapless = all(p.pitch_x == p.channels for p in (x, y, spec.residual) if p)
    pixels = dot.vector_bytes // y.channels if y.channels * 2 <= dot.vector_bytes else 1
    if sx != 2 or not gapless or dot.vector_bytes % y.channels or y.width < pixels:
        pixels = 1
    along = gapless and sx == 1
    ky = spec.kernel[0]
    paired = 1 < ky < dot.depth and spec.strides[0] == 1 and y.height > 1
    return DepthwiseCode(
        dot.name,
        x,
        y,
        spec.residual,
        spec.kernel,
        spec.strides,
        spec.dilations,
        epilogue,
        along_row=along,
        pixels=1 if along else pixels,
        rows=2 if paired and spec.dilations[0] == 1 else 1,
        bits=bits,
    )


def depthwise_kernel(code: DepthwiseCode, weights: Array, channels: ChannelConstants) -> Kernel:
    """The weights of each set; four epilogue records for each set."""
    order = _order(code)
    panels = spread_depthwise(code, weights)
    rows = panels.view(np.int8).reshape(len(order), code.steps, code.machine.vector_bytes)
    lanes = code.machine.lanes
    constants = records(code.epilogue, channels, order.reshape(-1, lanes), lanes)
    return Kernel(code, constants, pack(rows, code.bits).tobytes())


def spread_depthwise(code: DepthwiseCode, weights: Array) -> Array:
    """The weights as the dots read them, set by set, before they are packed."""
    return np.stack([_weights(code, weights, chunk) for chunk in _order(code)])


def _order(code: DepthwiseCode) -> Array:
    """(sets, 4, lanes) -> channel, or -1 past the end of a short chunk."""
    size, block = code.machine.vector_bytes, code.machine.block
    blocks = np.arange(size).reshape(size // block, 4, block // 4)
    inside = blocks.transpose(1, 0, 2).reshape(4, -1)
    channel = (np.array(code.starts)[:, None, None] + inside) % code.y.channels
    return np.where(inside < code.count, channel, -1)


def _weights(code: DepthwiseCode, weights: Array, order: Array) -> Array:
    """[group][row][vector][lane][tap] for one set; weights are (C, ky, kx, 1)."""
    taps = np.where(order[..., None, None] >= 0, weights[np.maximum(order, 0), :, :, 0], np.int8(0))
    blocks = []
    for group in code.groups:
        for row in range(code.rows if code.bits == 8 else 1):
            block = np.zeros((*order.shape, code.machine.depth), np.int8)
            for k, tap in _own_taps(code, group, row):
                block[..., k] = taps[..., tap[0], tap[1]]
            blocks.append(block)
    return np.stack(blocks)


def _own_taps(code: DepthwiseCode, group: tuple[Tap, ...], row: int) -> Iterator[tuple[int, Tap]]:
    """Places in the group, and the kernel's tap there, that belong to this row of the unit."""
    for k, (y, x) in enumerate(group):
        if 0 <= y - row < code.kernel[0]:
            yield k, (y - row, x)
