"""Rows of a table by integers that are known at run time, each times its own multiplier.

    embed(table: View, index: View, mult, shift, clamp, y: View, features)
    embed_packed(layer: Kernel, index: View, mult, shift, clamp, y: View)
        y[i..., c] = clip((table[k, c] * mult[k] + 2**(shift-1)) >> shift), k = clip(index[i...])

The table is a tensor, or the weights (V, C) of a layer, as its kernel has them packed.

Arguments ("table", "index", "constants", "y"); ("weights", "index", "constants", "y").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.plain import PlainCode
from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.sequence.indexed import gather_strides
from qir.backends.kernels.view import View

PackedCode = DenseCode | PlainCode
"""Kernels of layers whose packed weights are read row by row too."""


@dataclass(frozen=True)
class EmbedCode(NestCode):
    """The nest's operands: the table's row, index, y; its last axis is the row. The table has
    `rows`, `pitch` apart.
    """

    table: str
    index: str
    y: str
    low: int
    high: int
    rows: int
    pitch: int
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("table", "index", "constants", "y")

    @property
    def fields(self) -> Fields:
        return _fields(self.rows)


@dataclass(frozen=True)
class EmbedPackedCode(NestCode):
    """The nest's operands: index, y; its last axis is the row. `layer`: whose weights are read."""

    index: str
    y: str
    low: int
    high: int
    layer: PackedCode
    nest: Nest

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("weights", "index", "constants", "y")

    @property
    def rows(self) -> int:
        return _shape(self.layer)[0]

    @property
    def fields(self) -> Fields:
        return _fields(self.rows)


def _fields(rows: int) -> Fields:
    return Fields((("mult", "int32", rows), ("shift", "int64", 1)))


def _block(fields: Fields, mult: Array, shift: int) -> bytes:
    return fields.pack({"mult": mult, "shift": np.asarray(shift)})


def embed(
    table: View, index: View, mult: Array, shift: int, clamp: tuple[int, int], y: View,
    features: frozenset[str],
) -> Kernel:  # fmt: skip
    """Rows of a tensor."""
    loops = nest(y.shape, gather_strides(table, index, y), inner=1)
    code = EmbedCode(
        table.dtype, index.dtype, y.dtype, *clamp, table.shape[0], table.strides[0], loops,
        vector_bytes(features),
    )  # fmt: skip
    return Kernel(code, _block(code.fields, mult, shift))


def embed_packed(
    layer: Kernel, index: View, mult: Array, shift: int, clamp: tuple[int, int], y: View
) -> Kernel:
    """Rows of the weights of `layer`, which `holds_rows`."""
    assert isinstance(layer.code, PackedCode)
    loops = nest(y.shape, ((*index.strides, 0), y.strides), inner=1)
    code = EmbedPackedCode(index.dtype, y.dtype, *clamp, layer.code, loops)
    return Kernel(code, _block(code.fields, mult, shift), layer.weights)


def holds_rows(layer: Kernel, shape: tuple[int, ...]) -> bool:
    """Whether the packed weights of a kernel are those of a matrix (V, C) and nothing else."""
    code = layer.code
    if not isinstance(code, PackedCode):
        return False
    block = code.packing.block if isinstance(code, DenseCode) else code.block
    return not block and _shape(code) == shape


def _shape(code: PackedCode) -> tuple[int, ...]:
    """(O, taps * I) of the weights."""
    if isinstance(code, DenseCode):
        is_one = code.groups == code.runs.taps == 1
        return (code.share, code.runs.length) if is_one else ()
    out, ky, kx, inner = code.spec.weight_shape
    return (out, ky * kx * inner) if code.spec.groups == 1 else ()
