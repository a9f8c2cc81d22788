"""Loop nests over several strided tensors, simplified, and cut into units of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

GRAIN = 4096  # elements of a unit: about a microsecond, so that starting it costs little


@dataclass(frozen=True)
class Nest:
    """Axes outermost first; strides[k] are operand k's, in elements.

    Axes before `cut` count units; axis `cut` is taken in pieces of `piece` elements, the last of
    which moves back until it fits; the axes after it are loops.
    """

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    cut: int
    piece: int

    @property
    def pieces(self) -> int:
        return -(-self.shape[self.cut] // self.piece)

    @property
    def units(self) -> int:
        return prod(self.shape[: self.cut]) * self.pieces

    @property
    def row(self) -> int:
        """Elements of the innermost loop."""
        return self.piece if self.cut == len(self.shape) - 1 else self.shape[-1]

    @property
    def steps(self) -> tuple[int, ...]:
        """Every operand's stride in the innermost loop."""
        return tuple(s[-1] for s in self.strides)


class NestCode:
    """Of kernels that are one nest: its units are theirs."""

    nest: Nest

    @property
    def units(self) -> int:
        return self.nest.units


def nest(
    shape: Sequence[int], strides: Sequence[Sequence[int]], grain: int = GRAIN, inner: int = 0
) -> Nest:
    """The simplest nest that visits the same elements, ordered by the strides of the last operand.

    The last `inner` axes keep their places and are never cut or merged with others.
    """
    free = len(shape) - inner
    axes = [(size, tuple(s[i] for s in strides)) for i, size in enumerate(shape[:free]) if size > 1]
    axes.sort(key=lambda axis: -abs(axis[1][-1]))
    fixed = [(size, tuple(s[free + i] for s in strides)) for i, size in enumerate(shape[free:])]
    axes = [*_merge_axes(axes), *fixed]
    if not axes or (inner and len(axes) == inner):
        axes = [(1, (1,) * len(strides) if not inner else (0,) * len(strides)), *axes]
    cut, piece = _cut([size for size, _ in axes], grain, len(axes) - inner)
    return Nest(
        tuple(size for size, _ in axes),
        tuple(tuple(steps[k] for _, steps in axes) for k in range(len(strides))),
        cut,
        piece,
    )


def transpose_nest(loops: Nest, near: int, least: int, grain: int = GRAIN) -> Nest:
    """The nest with axis `near` moved to just before the last; pieces of it are `least` or more."""
    last = len(loops.shape) - 1
    order = [a for a in range(last) if a != near] + [near, last]
    shape = tuple(loops.shape[a] for a in order)
    cut, piece = _cut(list(shape), grain, last)
    if cut == last - 1:
        piece = max(piece, min(least, shape[cut]))
    return Nest(shape, tuple(tuple(s[a] for a in order) for s in loops.strides), cut, piece)


def _merge_axes(axes: list[tuple[int, tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    """Merge neighbours that every operand walks like one axis."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for size, steps in axes:
        if runs:
            outer, outer_steps = runs[-1]
            if all(o == s * size for o, s in zip(outer_steps, steps, strict=True)):
                runs[-1] = (outer * size, steps)
                continue
        runs.append((size, steps))
    return runs


def _cut(shape: list[int], grain: int, limit: int) -> tuple[int, int]:
    """The outermost axis whose inside is at most `grain`, and how much of it to take."""
    work = prod(shape[limit:])
    for axis in range(limit - 1, -1, -1):
        if work * shape[axis] > grain or axis == 0:
            piece = max(1, min(shape[axis], grain // work))
            if piece == 1 and axis < limit - 1:
                return axis + 1, shape[axis + 1]
            return axis, piece
        work *= shape[axis]
    raise AssertionError("a nest has an axis")
