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
from qir.backends.tvm.kernels.softmax import emit_softmax

EMITTERS: dict[type, Callable[[Any, str], PrimFunc]] = {
    BilinearCode: emit_bilinear,
    CopyCode: emit_copy,
    DenseCode: emit_dense,
    DepthwiseCode: emit_depthwise,
    ElementwiseCode: emit_elementwise,
    FillCode: emit_fill,
    FrameCode: emit_frame,
    GatherCode: emit_gather,
    LookupCode: emit_lookup,
    MatMulCode: emit_matmul,
    MaxPoolCode: emit_max_pool,
    PlainCode: emit_plain,
    ReduceCode: emit_reduce,
    SoftmaxCode: emit_softmax,
    SumPoolCode: emit_sum_pool,
    WideCode: emit_wide,
}
"""A new kernel is a code class in backends/kernels, a function that writes it, and a line here."""


def emit(code: Any, symbol: str) -> PrimFunc:
    """`void symbol(pointers in the order of code.arguments, int32 begin, int32 end)`.

    Errors: LookupError when no kernel is written for such a code.
    """
    try:
        write = EMITTERS[type(code)]
    except KeyError:
        known = ", ".join(sorted(kind.__name__ for kind in EMITTERS))
        raise LookupError(
            f"kernel {symbol}: no TIR for {type(code).__name__}, one of {known} is needed"
        ) from None
    return write(code, symbol)
