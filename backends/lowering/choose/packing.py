"""Kernels for rows packed in bytes."""

from __future__ import annotations

from qir.backends.kernels.sequence import packing
from qir.backends.lowering.context import Call, Context, call
from qir.backends.lowering.fuse import Fusion
from qir.ir.ops import PackRows, UnpackRows


def choose_pack_rows(fusion: Fusion, context: Context) -> Call:
    """pack_rows -> blocks of codes and their numbers."""
    op = fusion.anchor
    assert isinstance(op, PackRows)
    x, y = context.place(op.x), context.place(op.result)
    bits = op.x.type.quant.storage.bits
    kernel = packing.pack_rows(x.view, op.packing, bits, y.view, context.features)
    return call(kernel, {"x": x, "y": y})


def choose_unpack_rows(fusion: Fusion, context: Context) -> Call:
    """unpack_rows -> the integers of blocks; rows that nothing has been written to are 0."""
    op = fusion.anchor
    assert isinstance(op, UnpackRows)
    values = {"x": op.x, "start": op.start, "y": op.result}
    places = {name: context.place(v) for name, v in values.items() if v is not None}
    start = places["start"].view if "start" in places else None
    kernel = packing.unpack_rows(
        places["x"].view, start, op.count, op.packing, op.to.storage.bits, places["y"].view,
        context.features,
    )  # fmt: skip
    return call(kernel, places)
