"""The table from an anchor's class to the function that chooses its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qir.backends.lowering.choose.codes import choose_codes
from qir.backends.lowering.choose.contraction import choose_conv, choose_linear
from qir.backends.lowering.choose.elementwise import (
    choose_gather,
    choose_lookup,
    choose_mul,
    choose_pad,
    choose_requantize,
)
from qir.backends.lowering.choose.embedding import choose_embed
from qir.backends.lowering.choose.packing import choose_pack_rows, choose_unpack_rows
from qir.backends.lowering.choose.product import choose_bilinear, choose_matmul, choose_softmax
from qir.backends.lowering.choose.reduction import (
    choose_avg_pool,
    choose_max_pool,
    choose_reduce_max,
    choose_reduce_sum,
)
from qir.backends.lowering.choose.sequence import (
    choose_attention,
    choose_hadamard,
    choose_interpolate,
    choose_norm,
    choose_positions,
    choose_quantize_row_blocks,
    choose_quantize_rows,
    choose_rope,
    choose_row_scale,
    choose_scale_rows,
    choose_slice_rows,
    choose_take,
    choose_within,
    choose_write_rows,
)
from qir.backends.lowering.context import Call, Context, NoKernel
from qir.backends.lowering.fuse import Fusion
from qir.ir.op import Op
from qir.ir.ops import (
    AttentionFixed,
    AvgPool,
    Bilinear,
    Conv,
    Embed,
    Gather,
    Hadamard,
    Interpolate,
    Linear,
    Lookup,
    MatMul,
    MaxPool,
    Mul,
    NormFixed,
    PackRows,
    Pad,
    Positions,
    QuantizeRowBlocks,
    QuantizeRows,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Requantize,
    RopeFixed,
    RowScale,
    ScaleRows,
    SliceRows,
    SoftmaxFixed,
    Take,
    UnpackRows,
    Within,
    WriteRows,
)

CHOOSERS: Mapping[type[Op], Callable[[Fusion, Context], Call]] = {
    AttentionFixed: choose_attention,
    AvgPool: choose_avg_pool,
    Bilinear: choose_bilinear,
    Conv: choose_conv,
    Embed: choose_embed,
    Gather: choose_gather,
    Hadamard: choose_hadamard,
    Interpolate: choose_interpolate,
    Linear: choose_linear,
    Lookup: choose_lookup,
    MatMul: choose_matmul,
    MaxPool: choose_max_pool,
    Mul: choose_mul,
    NormFixed: choose_norm,
    PackRows: choose_pack_rows,
    Pad: choose_pad,
    Positions: choose_positions,
    QuantizeRowBlocks: choose_quantize_row_blocks,
    QuantizeRows: choose_quantize_rows,
    ReduceMax: choose_reduce_max,
    ReduceMean: choose_reduce_sum,
    ReduceSum: choose_reduce_sum,
    Requantize: choose_requantize,
    RopeFixed: choose_rope,
    RowScale: choose_row_scale,
    ScaleRows: choose_scale_rows,
    SliceRows: choose_slice_rows,
    SoftmaxFixed: choose_softmax,
    Take: choose_take,
    UnpackRows: choose_unpack_rows,
    Within: choose_within,
    WriteRows: choose_write_rows,
}
"""A new kernel is a function in a module of this folder, and a line here."""


def choose(fusion: Fusion, context: Context) -> Call:
    """The kernel for `fusion`. Errors: NoKernel, or a kernel's own ValueError."""
    if fusion.coded is not None:
        return choose_codes(fusion, context)
    chooser = CHOOSERS.get(type(fusion.anchor))
    if chooser is None:
        raise NoKernel(f"no kernel for {fusion.anchor.mnemonic}")
    return chooser(fusion, context)
