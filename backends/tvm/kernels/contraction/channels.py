"""Which output channels a panel of a dense contraction has, and where its vectors are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.tvm.compat import tirx
from qir.backends.tvm.kernels.writer import Expr, Writer


@dataclass(frozen=True)
class VectorChannels:
    """`first` in its group; `each`: the first of every vector, behind that; `vector`: which of all
    vectors in memory its first is.
    """

    first: Expr
    each: Sequence[Expr]
    vector: Expr


@dataclass(frozen=True)
class WorkUnit:
    """Where one unit of work reads and writes: element offsets, byte offsets of constants.

    `x` counts words where those are aligned; `y`, `residual` are those of its first channel, and
    `channels` what each vector's first is behind it; `pixel`: image, row and column of its first.
    """

    x: Expr
    y: Expr
    residual: Expr
    pixel: tuple[Expr, Expr, Expr]
    channels: Sequence[Expr]
    weights: Expr
    mults: Expr
    records: Expr


def channels_of(w: Writer, code: DenseCode, group: Expr, local: Expr) -> VectorChannels:
    """Those of panel `local` of a group: the last panel moves back until it fits."""
    lanes, count, every = code.machine.lanes, code.tile.vectors, code.group_vectors
    plain = [v * code.spacing * lanes for v in range(count)]
    if not code.packing.by_vector:
        width = count * lanes
        start = w.let(tirx.min(local * width, code.share - width)) if code.group_panels > 1 else 0
        return VectorChannels(start, plain, (group * code.group_panels + local) * count)
    first = local
    if code.spacing == 1:
        moves = code.group_panels > 1 and every % count
        first = w.let(tirx.min(local * count, every - count)) if moves else local * count
    vector = group * every + first
    if code.share % lanes == 0 or every == 1:
        return VectorChannels(first * lanes, plain, vector)
    last = code.share - lanes  # so does the last vector
    each = [w.let(tirx.min((first + v * code.spacing) * lanes, last)) for v in range(count)]
    return VectorChannels(0, each, vector)
