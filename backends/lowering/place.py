"""The place of a tensor in memory: a root, an offset and a stride for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from qir.backends.kernels.plane import INDICES, Plane
from qir.backends.kernels.view import View

Shape = tuple[int, ...]


def packed_strides(shape: Sequence[int]) -> Shape:
    """Strides of a tensor without gaps, last axis fastest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Place:
    """Element (i, j, ...) is `offset + i * strides[0] + j * strides[1] + ...` after its root."""

    root: str
    dtype: str
    shape: Shape
    strides: Shape
    offset: int = 0

    @classmethod
    def packed(cls, root: str, dtype: str, shape: Sequence[int]) -> Place:
        return cls(root, dtype, tuple(shape), packed_strides(shape))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_packed(self) -> bool:
        return self.normal.strides == packed_strides(self.shape)

    @property
    def normal(self) -> Place:
        """The same elements; strides that never count (of axes of 1) as in a packed tensor."""
        sizes = zip(self.shape, self.strides, packed_strides(self.shape), strict=True)
        return replace(self, strides=tuple(p if n == 1 else s for n, s, p in sizes))

    def is_same(self, other: Place) -> bool:
        return self.normal == other.normal

    def meets(self, other: Place) -> bool:
        """Whether the two, of one root, may have an element in common: they are apart where one
        begins behind the other, or does so in every row of some length.
        """
        both = [*zip(self.shape, self.strides, strict=True)]
        both += zip(other.shape, other.strides, strict=True)
        lengths = {INDICES, *(abs(step) for size, step in both if size > 1 and step)}
        return not any(_are_apart(self._in_rows(n), other._in_rows(n)) for n in lengths)

    def _in_rows(self, length: int) -> tuple[int, int] | None:
        """With the root in rows of `length` elements, the first and the last place in them that it
        has; None where it goes on from one row in the next.
        """
        steps = zip(self.shape, self.strides, strict=True)
        reaches = [(size - 1) * step for size, step in steps if step % length]
        first = (self.offset + sum(min(0, reach) for reach in reaches)) % length
        last = first + sum(map(abs, reaches))
        return (first, last) if last < length else None

    def permuted(self, perm: Sequence[int]) -> Place:
        return replace(
            self,
            shape=tuple(self.shape[p] for p in perm),
            strides=tuple(self.strides[p] for p in perm),
        )

    def sliced(
        self, start: Sequence[int], shape: Sequence[int], step: Sequence[int] | None = None
    ) -> Place:
        """Elements start, start + step, ... of each axis, `shape` of them."""
        every = step or (1,) * len(self.shape)
        offset = self.offset + sum(a * s for a, s in zip(start, self.strides, strict=True))
        strides = tuple(k * s for k, s in zip(every, self.strides, strict=True))
        return replace(self, shape=tuple(shape), strides=strides, offset=offset)

    def broadcast(self, shape: Sequence[int]) -> Place:
        """Broadcast as NumPy does: strides of 0 along repeated axes."""
        lead = len(shape) - len(self.shape)
        extents = (1,) * lead + self.shape
        strides = (0,) * lead + self.strides
        spread = tuple(
            0 if o == 1 and n != 1 else s for o, n, s in zip(extents, shape, strides, strict=True)
        )
        return replace(self, shape=tuple(shape), strides=spread)

    def reshaped(self, shape: Sequence[int]) -> Place | None:
        """The same memory under another shape, or None where only a copy can do that."""
        if prod(shape) != self.size or self.size == 0:
            return None
        strides = _reshaped_strides(self.shape, self.strides, tuple(shape))
        return None if strides is None else replace(self, shape=tuple(shape), strides=strides)

    @property
    def view(self) -> View:
        """How a kernel walks it, from a pointer to its first element."""
        normal = self.normal
        return View(self.dtype, normal.shape, normal.strides)

    def plane(self) -> Plane | None:
        """As (N, H, W, C) with adjacent channels, if it is; more axes join where they adjoin."""
        place: Place | None = self
        if len(self.shape) > 4:
            place = self.reshaped((prod(self.shape[:-3]), *self.shape[-3:]))
        if place is None:
            return None
        lead = 4 - len(place.shape)
        full = replace(place, shape=(1,) * lead + place.shape, strides=(0,) * lead + place.strides)
        (n, h, w, c), (sn, sh, sw, sc) = full.normal.shape, full.normal.strides
        if self.size == 0 or (c > 1 and sc != 1) or sw < c or min(sn, sh) < 0:
            return None
        return Plane(self.dtype, n, h, w, c, sn, sh, sw)


def _are_apart(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    return a is not None and b is not None and (a[1] < b[0] or b[1] < a[0])


def _reshaped_strides(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides under `new`: contiguous runs of axes are split; None if a split crosses a gap."""
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    out: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        count_old, count_new, i0, j0 = 1, 1, i, j
        if i < len(old):
            count_old, i = old[i][0], i + 1
        while count_new != count_old or (j < len(new) and new[j] == 1 and i >= len(old)):
            if count_new <= count_old and j < len(new):
                count_new, j = count_new * new[j], j + 1
            else:
                count_old, i = count_old * old[i][0], i + 1
        run = old[i0:i]
        if any(a[1] != b[0] * b[1] for a, b in pairwise(run)):
            return None
        step = run[-1][1] if run else 1
        cut = []
        for size in reversed(new[j0:j]):
            cut.append(step)
            step *= size
        out.extend(reversed(cut))
    return tuple(out)
