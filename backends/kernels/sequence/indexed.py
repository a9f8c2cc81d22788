"""Kernels of rows by integers that are known at run time: take, slice_rows and write_rows.

    take(table: View, index: View, y: View, features)
        y[i..., r...] = table[clip(index[i...]), r...]
    copy_rows(x: View, start: View, y: View, axis, features)
        y = x[..., start : start + count, ...] where x has more rows along the axis, else
        y[..., start : start + count, ...] = x; start is clipped so that all rows exist

Arguments ("table", "index", "y"), ("x", "start", "y").
"""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View


@dataclass(frozen=True)
class TakeCode(NestCode):
    """The nest's operands: the table's row, index, y. `rows` of the table, `pitch` apart, perhaps a
    constant.
    """

    dtype: str
    index: str
    rows: int
    pitch: int
    is_constant: bool
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("table", "index", "y")


@dataclass(frozen=True)
class CopyRowsCode(NestCode):
    """The nest's operands: x, y. `last`: the greatest start; x and y move by pitches with it."""

    dtype: str
    start: str
    last: int
    x_pitch: int
    y_pitch: int
    is_constant: bool
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "start", "y")


def gather_strides(table: View, index: View, y: View) -> tuple[tuple[int, ...], ...]:
    """Strides over y's axes of the table's row, the index, y."""
    index_rank, rest = len(index.shape), len(table.shape) - 1
    return ((*[0] * index_rank, *table.strides[1:]), (*index.strides, *[0] * rest), y.strides)


def take(
    table: View, index: View, y: View, features: frozenset[str], is_constant: bool = False
) -> Kernel:
    """Rows of a table, which may be a constant."""
    loops = nest(y.shape, gather_strides(table, index, y))
    code = TakeCode(
        y.dtype, index.dtype, table.shape[0], table.strides[0], is_constant, loops,
        vector_bytes(features),
    )  # fmt: skip
    return Kernel(code)


def copy_rows(
    x: View, start: View, y: View, axis: int, features: frozenset[str], is_constant: bool = False
) -> Kernel:
    """Rows from `start` on of the larger of x and y along the axis; x may be a constant."""
    last = x.shape[axis] - y.shape[axis]
    pitches = (x.strides[axis], 0) if last > 0 else (0, y.strides[axis])
    part = x if last < 0 else y
    loops = nest(part.shape, (x.strides, y.strides))
    vectors = vector_bytes(features)
    code = CopyRowsCode(y.dtype, start.dtype, abs(last), *pitches, is_constant, loops, vectors)
    return Kernel(code)
