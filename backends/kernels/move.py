"""Kernels that move elements of 8, 16 or 32 bits: strided copies, gathers by tables, fills.

copy(x: View, y: View, features)              arguments ("x", "y")
    y[i, j, ...] = x[i, j, ...]; one shape, any strides: transpose, slice, flip, expand, concat
    piece, reshape between planes with gaps, the inside of a pad.
fill(y: View, value, features)                arguments ("y",)
frame(inside: Plane, (top, left, bottom, right), value, features)       arguments ("y",)
    fills what surrounds the inside of a larger plane; the pointer is to the larger plane's first
    element, whose rows are inside.pitch_y apart and hold left + width + right pixels.
gather(offsets, x dtype, y: View, features)   arguments ("x", "constants", "y")
    y[i, j, ...] = x[offsets[0][i] + offsets[1][j] + ...]; an entry of `offsets` is an array of
    element offsets, or an int k that stands for k * (0, 1, 2, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import GRAIN, Nest, NestCode, nest, transpose_nest
from qir.backends.kernels.plane import BYTES, RANGE, Plane, check_indices
from qir.backends.kernels.view import View

SHUFFLED = 16  # bytes of the vectors that are shuffled: every machine does that in registers
WOVEN = 4  # elements that weaving takes together at most


class Route(Enum):
    """How a copy goes. All but ROWS have an axis along which x is contiguous before y's own.

    WEAVE: a few of y's elements come from as many places of x, and y's next axis continues them.
    UNWEAVE: the other way about. TILES: squares are turned in registers.
    """

    ROWS = "rows"
    WEAVE = "weave"
    UNWEAVE = "unweave"
    TILES = "tiles"


@dataclass(frozen=True)
class CopyCode(NestCode):
    """Operands of the nest: x, y. `item`: bytes of an element. `lanes`: elements of a vector."""

    item: int
    nest: Nest
    route: Route
    lanes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "y")


@dataclass(frozen=True)
class FillCode(NestCode):
    """Operand of the nest: y."""

    item: int
    nest: Nest
    value: int
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("y",)


@dataclass(frozen=True)
class FrameCode:
    """In each of `batch` images: `head` elements, then `count` runs of `run`, then `tail` elements.

    The first run starts `first` elements after the image, each next one `pitch` later; the tail
    follows the last. One unit is one image.
    """

    item: int
    batch: int
    pitch_n: int
    head: int
    first: int
    count: int
    run: int
    pitch: int
    last: int
    tail: int
    value: int
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.batch

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("y",)


@dataclass(frozen=True)
class GatherCode(NestCode):
    """The nest's operands: an index into each table, x by strides, y. X begins at element `base`.

    Table k starts at element starts[k] of the constants; `table` is the size of all.
    """

    item: int
    nest: Nest
    starts: tuple[int, ...]
    table: int
    base: int
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        return Fields((("offsets", "int32", max(self.table, 1)),))


def copy(x: View, y: View, features: frozenset[str]) -> Kernel:
    """Y = X, element by element."""
    if x.shape != y.shape or x.dtype != y.dtype:
        raise ValueError(
            f"copy: x is {x.dtype} {list(x.shape)}, y {y.dtype} {list(y.shape)}; one type is needed"
        )
    loops = nest(x.shape, (x.strides, y.strides), grain=4 * GRAIN // x.item)
    return Kernel(_route(x.item, loops, vector_bytes(features)))


def _route(item: int, loops: Nest, width: int) -> CopyCode:
    """The copy along rows, or by shuffles where x and y are contiguous along different axes."""
    (*outer, x_step), y_step = loops.strides[0], loops.steps[1]
    lanes = SHUFFLED // item
    if not width or y_step != 1 or x_step in (0, 1) or 1 not in outer:
        return CopyCode(item, loops, Route.ROWS, max(1, width // item))
    turn = transpose_nest(loops, outer.index(1), lanes, 4 * GRAIN // item)
    many, few = turn.shape[-2:] if turn.cut < len(turn.shape) - 2 else (turn.piece, turn.shape[-1])
    y_near = turn.strides[1][-2]
    if few <= WOVEN and y_near == few and many >= lanes:
        return CopyCode(item, turn, Route.WEAVE, lanes)
    if many == turn.shape[-2] <= WOVEN and x_step == many and few >= lanes:
        return CopyCode(item, turn, Route.UNWEAVE, lanes)
    if min(many, few) >= lanes:
        return CopyCode(item, turn, Route.TILES, lanes)
    return CopyCode(item, loops, Route.ROWS, max(1, width // item))


def fill(y: View, value: int, features: frozenset[str]) -> Kernel:
    """Y = value, everywhere."""
    _check_value("fill", value, y.dtype)
    loops = nest(y.shape, (y.strides,), grain=4 * GRAIN // y.item)
    return Kernel(FillCode(y.item, loops, value, vector_bytes(features)))


def frame(
    inside: Plane, pad: tuple[int, int, int, int], value: int, features: frozenset[str]
) -> Kernel:
    """`value` in the pad (top, left, bottom, right) around the inside of a plane, which stays."""
    _check_value("frame", value, inside.dtype)
    top, left, bottom, right = pad
    p = inside
    row_pixels = left + p.width + right
    if min(pad) < 0 or p.pitch_y != row_pixels * p.pitch_x or p.pitch_x != p.channels:
        raise ValueError(
            f"frame: pixels are {p.pitch_x} elements apart, rows {p.pitch_y}; pad {pad} needs"
            f" {p.channels} and {row_pixels * p.channels}"
        )
    between = p.pitch_y - p.width * p.pitch_x
    head = top * p.pitch_y + left * p.pitch_x
    last = head + (p.height - 1) * p.pitch_y + p.width * p.pitch_x
    tail = bottom * p.pitch_y + right * p.pitch_x
    check_indices("frame: elements of the plane", (p.batch - 1) * p.pitch_n + last + tail)
    return Kernel(FrameCode(
        BYTES[p.dtype], p.batch, p.pitch_n, head, head + p.width * p.pitch_x, p.height - 1, between,
        p.pitch_y, last, tail, value, vector_bytes(features),
    ))  # fmt: skip


def gather(offsets: Sequence[Array | int], dtype: str, y: View, features: frozenset[str]) -> Kernel:
    """Y[i, j, ...] = X[offsets[0][i] + offsets[1][j] + ...], offsets in elements."""
    rank = len(y.shape)
    if len(offsets) != rank or dtype != y.dtype:
        raise ValueError(
            f"gather: {len(offsets)} offsets of {dtype}, y is {y.dtype} of rank {rank};"
            " they must agree"
        )
    base, steps, tables, reach = 0, [0] * rank, {}, 1
    for axis, (entry, size) in enumerate(zip(offsets, y.shape, strict=True)):
        table = np.asarray(entry, np.int64)
        if table.ndim == 0:
            table = table * np.arange(size)
        if table.shape != (size,):
            raise ValueError(
                f"gather: {list(table.shape)} offsets on axis {axis}, [{size}] are needed"
            )
        reach += int(np.abs(table).max())
        differences = set(np.diff(table).tolist())
        if len(differences) <= 1:  # evenly spaced: a stride
            base, steps[axis] = base + int(table[0]), differences.pop() if differences else 0
        else:
            tables[axis] = table
    check_indices("gather: elements from the first to the last of x", reach)
    flat = np.concatenate([*tables.values(), np.zeros(1, np.int64)])
    # A stride of 1 in an index marks its axis: axes with tables merge with no other.
    index = [[int(a == axis) for a in range(rank)] for axis in tables]
    loops = nest(y.shape, [*index, steps, y.strides], grain=4 * GRAIN // y.item)
    starts = np.cumsum([0, *(t.size for t in tables.values())])[:-1]
    code = GatherCode(
        y.item, loops, tuple(int(s) for s in starts), flat.size, base, vector_bytes(features)
    )
    return Kernel(code, code.fields.pack({"offsets": flat}))


def _check_value(kernel: str, value: int, dtype: str) -> None:
    low, high = RANGE[dtype]
    if not low <= value <= high:
        raise ValueError(f"{kernel}: value {value}, {low} to {high} is needed for {dtype}")
