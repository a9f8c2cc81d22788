"""The kernel of an embedding, which may read its table out of the weights of a tied layer."""

from __future__ import annotations

from dataclasses import replace

from qir.backends.kernels.sequence.embedding import embed, embed_packed, holds_rows
from qir.backends.lowering.choose.codes import clamp_of
from qir.backends.lowering.choose.contraction import choose_linear
from qir.backends.lowering.context import Call, Context, call
from qir.backends.lowering.fuse import Fusion
from qir.ir.ops import Embed


def choose_embed(fusion: Fusion, context: Context) -> Call:
    """embed -> rows of a table, each times its multiplier; a matrix that a layer reads too is there
    once, as the kernel of that layer has it packed.
    """
    op = fusion.anchor
    assert isinstance(op, Embed)
    table, index, y = (context.place(v) for v in (op.table, op.index, op.result))
    numbers = op.mult.array, op.shift, clamp_of(op.to)
    rows = op.index.type.size
    of_rows = rows * op.table.type.shape[1] * op.table.type.quant.storage.bits // 8
    reads = {"constants": 4 * rows}
    layer = context.layers.get(op.table.name)
    if layer is not None:
        tied = context.calls[layer.result.name] = choose_linear(layer, context)
        if holds_rows(tied.kernel, op.table.type.shape):
            kernel = embed_packed(tied.kernel, index.view, *numbers, y.view)
            step = call(kernel, {"index": index, "y": y})
            return replace(step, reads={**reads, "weights": of_rows})
    kernel = embed(table.view, index.view, *numbers, y.view, context.features)
    step = call(kernel, {"table": table, "index": index, "y": y})
    return replace(step, reads={**reads, "table": of_rows})
