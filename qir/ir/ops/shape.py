"""Ops that move elements and change none; the same on reals and on stored integers."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import prod
from typing import Any, ClassVar

import numpy as np

from qir.ir.axes import Perm, permuted
from qir.ir.bounds import Bounds
from qir.ir.data import Data
from qir.ir.op import Value, op
from qir.ir.ops.kinds import Selection
from qir.ir.types import Array, Elem, Quant, Tensor


class Move(Selection):
    """Data movement: where an element comes from depends on its place alone, and on no value. So a
    move commutes with every function of one element; a per-axis quantization follows where its
    slices stay slices of one axis.

    keeps_slices: slices of an axis may stay slices of one, where place_of says.
    """

    keeps_slices: ClassVar[bool] = False

    def result_type(self, shape: tuple[int, ...]) -> Tensor:
        x = self.operands[0].type
        if isinstance(x.elem, Quant) and not x.elem.is_per_tensor:
            place = None if x.elem.axis is None or x.elem.block else self.place_of(x.elem.axis)
            if place is None:
                self.fail(
                    f"x is quantized along axis {x.elem.axis}",
                    "one scale is needed to move elements",
                )
            slices = self.slices_of(x.elem.axis)
            scale, zero = (a.array[slices] for a in (x.elem.scale, x.elem.zero_point))
            return Tensor(tuple(shape), Quant.per_axis(x.elem.storage, scale, zero, place))
        return x.with_shape(shape)

    def place_of(self, axis: int) -> int | None:
        """The axis of the result each of whose slices comes from one of this axis of x, or None."""
        return None

    def slices_of(self, axis: int | None) -> slice | Array:
        """Which slices of the axis those of the result come from."""
        return slice(None)

    def bound(self, x: Any) -> Bounds:
        return Bounds.of(*x.ends)


@op("reshape")
class Reshape(Move):
    """The elements of x, in order, in another shape. Shapes: x (...) -> y `shape`, as many
    elements.
    """

    keeps_slices: ClassVar[bool] = True

    x: Value
    shape: tuple[int, ...]

    def infer(self) -> Tensor:
        if prod(self.shape) != self.x.type.size or any(s < 0 for s in self.shape):
            self.fail(
                f"shape {list(self.shape)} of {self.x.type.size} elements",
                "as many elements are needed",
            )
        return self.result_type(self.shape)

    def batch_fault(self, batch: int) -> str | None:
        # One sample's elements stay together and in order, whatever the other axes become.
        is_same = self.x.type.shape[:1] == self.shape[:1] == (batch,)
        return None if is_same else "reshape moves the batch axis"

    def with_batch(self, batch: int) -> Reshape:
        return replace(self, shape=(batch, *self.shape[1:]))

    def place_of(self, axis: int) -> int | None:
        x = self.x.type.shape
        before = prod(x[:axis])
        sizes = [(i, prod(self.shape[:i]), size) for i, size in enumerate(self.shape)]
        matches = (i for i, outer, size in sizes if outer == before and size == x[axis])
        merges = (
            i
            for i, outer, size in sizes
            if self.x.type.size and before % outer == 0 and outer * size % (before * x[axis]) == 0
        )
        return next(matches, next(merges, None))

    def slices_of(self, axis: int | None) -> slice | Array:
        place = None if axis is None else self.place_of(axis)
        x = self.x.type.shape
        if axis is None or place is None or not self.x.type.size:
            return slice(None)
        outer = prod(x[:axis]) // prod(self.shape[:place])
        inner = self.shape[place] // (outer * x[axis])
        return np.tile(np.repeat(np.arange(x[axis]), inner), outer)

    def compute(self, torch: Any, x: Any) -> Any:
        return x.reshape(self.shape)

    def evaluate(self, x: Array) -> Array:
        return x.reshape(self.shape)


@op("transpose")
class Transpose(Move):
    """y[..., i_perm[k], ...] = x: axis k of y is axis perm[k] of x."""

    keeps_slices: ClassVar[bool] = True

    x: Value
    perm: tuple[int, ...]

    def infer(self) -> Tensor:
        if sorted(self.perm) != list(range(self.x.type.rank)):
            self.fail(
                f"perm {list(self.perm)} of rank {self.x.type.rank}", "each axis once is needed"
            )
        return self.result_type(tuple(self.x.type.shape[p] for p in self.perm))

    def batch_fault(self, batch: int) -> str | None:
        return None if self.perm[:1] == (0,) else "transpose moves the batch axis"

    def place_of(self, axis: int) -> int | None:
        return self.perm.index(axis)

    def compute(self, torch: Any, x: Any) -> Any:
        return x.permute(self.perm)

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.transpose(self.perm), order="C")


@op("concat")
class Concat(Move):
    """The xs one after another along `axis`, which is exact. Of quantized ones with one scale, or
    the same ones along another axis, it has these; else the result has the scales of each along
    the axis, in one storage.
    """

    has_parameters: ClassVar[bool] = False

    xs: tuple[Value, ...]
    axis: int

    def followers(self) -> tuple[Value, ...]:
        return self.xs

    def in_layout(self, perm: Perm) -> Concat:
        return replace(self, axis=perm.index(self.axis))

    def batch_fault(self, batch: int) -> str | None:
        return None if self.axis > 0 else f"{self.mnemonic} works along the batch axis"

    def infer(self) -> Tensor:
        if not self.xs or not 0 <= self.axis < self.xs[0].type.rank:
            self.fail(
                f"{len(self.xs)} operands, axis {self.axis}",
                "at least one operand and an axis of it are needed",
            )
        first = self.xs[0].type
        for x in self.xs:
            if not self._is_joined(x.type.elem, first.elem):
                self.fail(
                    f"{x} is {x.type.elem}, {self.xs[0]} is {first.elem}",
                    "one element type, or one storage and scales along the axis, is needed",
                )
            if x.type.rank != first.rank or any(
                a != b
                for i, (a, b) in enumerate(zip(x.type.shape, first.shape, strict=True))
                if i != self.axis
            ):
                self.fail(
                    f"{x} is {list(x.type.shape)}, {self.xs[0]} is {list(first.shape)}",
                    "shapes must match",
                )
        length = sum(x.type.shape[self.axis] for x in self.xs)
        shape = (*first.shape[: self.axis], length, *first.shape[self.axis + 1 :])
        return Tensor(shape, self._elem())

    def _is_joined(self, elem: Elem, first: Elem) -> bool:
        if not isinstance(elem, Quant) or not isinstance(first, Quant):
            return elem == first
        fits = all(q.axis in (None, self.axis) and q.block is None for q in (elem, first))
        return (fits and elem.storage == first.storage) or self._is_across(elem, first)

    def _is_across(self, elem: Quant, first: Quant) -> bool:
        """Whether both have the same scales along another axis, and so has the result."""
        return elem == first and elem.axis != self.axis and elem.block is None

    def _elem(self) -> Elem:
        first = self.xs[0].type.elem
        if not isinstance(first, Quant):
            return first
        if all(self._is_across(x.type.quant, first) for x in self.xs):
            return first
        scales, zeros = [], []
        for x in self.xs:
            q = x.type.quant
            count = x.type.shape[self.axis]
            scales.append(np.broadcast_to(q.scale.array, count))
            zeros.append(np.broadcast_to(q.zero_point.array, count))
        arrays = np.concatenate(scales), np.concatenate(zeros)
        return Quant.per_axis(first.storage, *arrays, self.axis)

    def compute(self, torch: Any, xs: tuple[Any, ...]) -> Any:
        return torch.cat(xs, dim=self.axis)

    def evaluate(self, xs: tuple[Array, ...]) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def bound(self, xs: Any) -> Bounds:
        bounds: tuple[Bounds, ...] = xs
        return reduce(Bounds.join, bounds)


@op("slice")
class Slice(Move):
    """y = x[start : stop : step] on each axis; steps are positive, bounds within the size."""

    keeps_slices: ClassVar[bool] = True

    x: Value
    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def in_layout(self, perm: Perm) -> Slice:
        start, stop, step = (permuted(t, perm) for t in (self.start, self.stop, self.step))
        return replace(self, start=start, stop=stop, step=step)

    def batch_fault(self, batch: int) -> str | None:
        every = (self.start[0], self.stop[0], self.step[0]) == (0, batch, 1)
        return None if every else "slice cuts the batch axis"

    def with_batch(self, batch: int) -> Slice:
        return replace(self, stop=(batch, *self.stop[1:]))

    def infer(self) -> Tensor:
        x = self.x.type
        if not len(self.start) == len(self.stop) == len(self.step) == x.rank:
            self.fail(f"bounds for {len(self.start)} axes", f"{x.rank} are needed")
        for s, a, b, k in zip(x.shape, self.start, self.stop, self.step, strict=True):
            if not (0 <= a <= b <= s and k > 0):
                self.fail(
                    f"slice {a}:{b}:{k} of {s}",
                    "bounds within the size and a positive step are needed",
                )
        return self.result_type(
            tuple(
                -(-(b - a) // k) for a, b, k in zip(self.start, self.stop, self.step, strict=True)
            )
        )

    def place_of(self, axis: int) -> int | None:
        return axis

    def slices_of(self, axis: int | None) -> slice | Array:
        return slice(None) if axis is None else self._index[axis]

    @property
    def _index(self) -> tuple[slice, ...]:
        return tuple(
            slice(a, b, k) for a, b, k in zip(self.start, self.stop, self.step, strict=True)
        )

    def compute(self, torch: Any, x: Any) -> Any:
        return x[self._index]

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x[self._index], order="C")


@op("gather")
class Gather(Move):
    """y takes the slices `index` (each 0 .. size-1) of x along `axis`.

    Shapes: x (..., size, ...), index (...) -> y with index's shape in place of the axis.
    """

    x: Value
    index: Data
    axis: int

    def followers(self) -> tuple[Value, ...] | None:
        return (self.x,) if self.index.array.ndim == 1 else None

    def in_layout(self, perm: Perm) -> Gather:
        return replace(self, axis=perm.index(self.axis))

    def batch_fault(self, batch: int) -> str | None:
        return None if self.axis > 0 else f"{self.mnemonic} works along the batch axis"

    def infer(self) -> Tensor:
        x = self.x.type
        if not 0 <= self.axis < x.rank or self.index.array.dtype.kind not in "iu":
            self.fail(
                f"axis {self.axis}, index {self.index.array.dtype}",
                "an axis of x and integers are needed",
            )
        if self.index.array.size and not (
            int(self.index.array.min()) >= 0 and int(self.index.array.max()) < x.shape[self.axis]
        ):
            self.fail("an index outside the axis", f"0 to {x.shape[self.axis] - 1} are needed")
        return self.result_type(
            (*x.shape[: self.axis], *self.index.shape, *x.shape[self.axis + 1 :])
        )

    def compute(self, torch: Any, x: Any) -> Any:
        flat = torch.from_numpy(self.index.array.reshape(-1).astype(np.int64))
        return x.index_select(self.axis, flat).reshape(self.result.type.shape)

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.take(x, self.index.array, axis=self.axis), order="C")


@op("expand")
class Expand(Move):
    """x broadcast to `shape`, as NumPy does."""

    x: Value
    shape: tuple[int, ...]

    def followers(self) -> tuple[Value, ...] | None:
        return (self.x,) if self.x.type.rank == len(self.shape) else None

    def in_layout(self, perm: Perm) -> Expand:
        return replace(self, shape=permuted(self.shape, perm))

    def batch_fault(self, batch: int) -> str | None:
        rank = len(self.shape)
        if self.x.type.rank != rank:
            return (
                f"{self.x} of rank {self.x.type.rank} meets others of rank {rank}: its samples"
                " broadcast"
            )
        return super().batch_fault(batch)

    def with_batch(self, batch: int) -> Expand:
        return replace(self, shape=(batch, *self.shape[1:]))

    def infer(self) -> Tensor:
        try:
            fits = np.broadcast_shapes(self.x.type.shape, self.shape) == tuple(self.shape)
        except ValueError:
            fits = False
        if not fits:
            self.fail(
                f"x is {list(self.x.type.shape)}",
                f"a shape that broadcasts to {list(self.shape)} is needed",
            )
        return self.result_type(self.shape)

    def compute(self, torch: Any, x: Any) -> Any:
        return x.expand(self.shape)

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.broadcast_to(x, self.shape), order="C")
