"""The table from a kernel's code to its TIR function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qir.backends.kernels.bilinear import BilinearCode
from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.depthwise import DepthwiseCode
from qir.backends.kernels.contraction.plain import PlainCode
from qir.backends.kernels.contraction.wide import WideCode
from qir.backends.kernels.elementwise import ElementwiseCode
from qir.backends.kernels.lookup import LookupCode
from qir.backends.kernels.matmul import MatMulCode
from qir.backends.kernels.move import CopyCode, FillCode, FrameCode, GatherCode
from qir.backends.kernels.pool import MaxPoolCode, SumPoolCode
from qir.backends.kernels.reduce import ReduceCode
from qir.backends.kernels.sequence.attention import AttentionCode, VectorAttentionCode
from qir.backends.kernels.sequence.codes import RowCodesCode
from qir.backends.kernels.sequence.curve import InterpolateCode
from qir.backends.kernels.sequence.embedding import EmbedCode, EmbedPackedCode
from qir.backends.kernels.sequence.hadamard import HadamardCode
from qir.backends.kernels.sequence.ids import PositionsCode, WithinCode
from qir.backends.kernels.sequence.indexed import CopyRowsCode, TakeCode
from qir.backends.kernels.sequence.norm import NormCode
from qir.backends.kernels.sequence.packing import PackRowsCode, UnpackRowsCode
from qir.backends.kernels.sequence.rope import RopeCode
from qir.backends.kernels.sequence.rows import (
    QuantizeRowBlocksCode,
    QuantizeRowsCode,
    RowScaleCode,
    ScaleRowsCode,
)
from qir.backends.kernels.softmax import SoftmaxCode
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.kernels.bilinear import emit_bilinear
from qir.backends.tvm.kernels.contraction.dense import emit_dense
from qir.backends.tvm.kernels.contraction.depthwise import emit_depthwise
from qir.backends.tvm.kernels.contraction.plain import emit_plain
from qir.backends.tvm.kernels.contraction.wide import emit_wide
from qir.backends.tvm.kernels.elementwise import emit_elementwise
from qir.backends.tvm.kernels.lookup import emit_lookup
from qir.backends.tvm.kernels.matmul import emit_matmul
from qir.backends.tvm.kernels.move import emit_copy, emit_fill, emit_frame, emit_gather
from qir.backends.tvm.kernels.pool import emit_max_pool, emit_sum_pool
from qir.backends.tvm.kernels.reduce import emit_reduce
from qir.backends.tvm.kernels.sequence.attention import emit_attention
from qir.backends.tvm.kernels.sequence.codes import emit_row_codes
from qir.backends.tvm.kernels.sequence.curve import emit_interpolate
from qir.backends.tvm.kernels.sequence.embedding import emit_embed, emit_embed_packed
from qir.backends.tvm.kernels.sequence.hadamard import emit_hadamard
from qir.backends.tvm.kernels.sequence.ids import emit_positions, emit_within
from qir.backends.tvm.kernels.sequence.indexed import emit_copy_rows, emit_take
from qir.backends.tvm.kernels.sequence.norm import emit_norm
from qir.backends.tvm.kernels.sequence.packing import emit_pack_rows, emit_unpack_rows
from qir.backends.tvm.kernels.sequence.rope import emit_rope
from qir.backends.tvm.kernels.sequence.rows import (
    emit_quantize_row_blocks,
    emit_quantize_rows,
    emit_row_scale,
    emit_scale_rows,
)
from qir.backends.tvm.kernels.sequence.vector_attention import emit_vector_attention
from qir.backends.tvm.kernels.softmax import emit_softmax

EMITTERS: dict[type, Callable[[Any, str], PrimFunc]] = {
    AttentionCode: emit_attention,
    BilinearCode: emit_bilinear,
    CopyCode: emit_copy,
    CopyRowsCode: emit_copy_rows,
    DenseCode: emit_dense,
    DepthwiseCode: emit_depthwise,
    ElementwiseCode: emit_elementwise,
    EmbedCode: emit_embed,
    EmbedPackedCode: emit_embed_packed,
    FillCode: emit_fill,
    FrameCode: emit_frame,
    GatherCode: emit_gather,
    HadamardCode: emit_hadamard,
    InterpolateCode: emit_interpolate,
    LookupCode: emit_lookup,
    MatMulCode: emit_matmul,
    MaxPoolCode: emit_max_pool,
    NormCode: emit_norm,
    PackRowsCode: emit_pack_rows,
    PlainCode: emit_plain,
    PositionsCode: emit_positions,
    QuantizeRowBlocksCode: emit_quantize_row_blocks,
    QuantizeRowsCode: emit_quantize_rows,
    ReduceCode: emit_reduce,
    RopeCode: emit_rope,
    RowCodesCode: emit_row_codes,
    RowScaleCode: emit_row_scale,
    ScaleRowsCode: emit_scale_rows,
    SoftmaxCode: emit_softmax,
    SumPoolCode: emit_sum_pool,
    TakeCode: emit_take,
    UnpackRowsCode: emit_unpack_rows,
    VectorAttentionCode: emit_vector_attention,
    WideCode: emit_wide,
    WithinCode: emit_within,
}
"""A new kernel is a code class in backends/kernels, a function that writes it, and a line here."""


def emit(code: Any, symbol: str) -> PrimFunc:
    """`void symbol(pointers in the order of code.arguments, int32 begin, int32 end)`.

    Errors: LookupError when no kernel is written for such a code.
    """
    try:
        write = EMITTERS[type(code)]
    except KeyError:
        kinds = ", ".join(sorted(kind.__name__ for kind in EMITTERS))
        raise LookupError(
            f"kernel {symbol}: no TIR for {type(code).__name__}, one of {kinds} is needed"
        ) from None
    return write(code, symbol)
