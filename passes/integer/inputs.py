"""The quantization of a program's input, from the quantize ops that read it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qir.ir.fixed import Rounding
from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Quantize
from qir.ir.types import I16, U8, Quant
from qir.passes.integer.forms import NoInteger

UNREAD = Quant.per_tensor(U8, 1.0, 0)  # of an input that no op reads
COARSER = 2  # times the finest step of its readers, at most: more would take a bit from one


def input_quant(graph: Graph, value: Value) -> Quant:
    """The quantization of a float input.

    Of several readers' the one that holds the ranges of all, if its steps are at most COARSER than
    the finest; else one in 16 bits that does.

    Errors: NoInteger if no quantize with one scale reads it, or none of 16 bits serves them all.
    """
    readers = graph.users.get(value.name, ())
    if not readers:
        return UNREAD
    quantizes = [op for op in readers if isinstance(op, Quantize)]
    kinds = list(dict.fromkeys(op.to for op in quantizes))
    if not kinds or not all(kind.is_per_tensor for kind in kinds):
        raise NoInteger("no quantize with one scale reads it")
    if any(op.rounding is Rounding.FLOOR for op in quantizes):
        raise NoInteger("it is rounded down, inputs are rounded half_even")
    return kinds[0] if len(kinds) == 1 else _common(kinds)


def _common(kinds: Sequence[Quant]) -> Quant:
    finest = min(float(kind.scale.array) for kind in kinds)
    ends = [_range(kind) for kind in kinds]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    for kind, (least, most) in zip(kinds, ends, strict=True):
        scale = float(kind.scale.array)
        if scale <= COARSER * finest and least <= low + scale / 2 and most >= high - scale / 2:
            return kind
    scale = float(np.float32((high - low) / (I16.max - I16.min)))
    if COARSER * scale > finest:
        raise NoInteger(
            f"quantizes to {', '.join(map(str, kinds))} read it,"
            f" which take {np.log2((high - low) / finest) + 1:.0f} bits, at most 16 are supported"
        )
    return Quant.per_tensor(I16, scale, round(-low / scale) + I16.min)


def _range(kind: Quant) -> tuple[float, float]:
    """The least and greatest real."""
    scale, zero = float(kind.scale.array), int(kind.zero_point.array)
    return (kind.storage.min - zero) * scale, (kind.storage.max - zero) * scale
