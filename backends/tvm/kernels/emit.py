"""From a kernel's code to its TIR function."""

from __future__ import annotations

from qir.backends.kernels.dense import DenseCode
from qir.backends.kernels.depthwise import DepthwiseCode
from qir.backends.kernels.plain import PlainCode
from qir.backends.kernels.prepare import Code
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.kernels.dense import emit_dense
from qir.backends.tvm.kernels.depthwise import emit_depthwise
from qir.backends.tvm.kernels.plain import emit_plain


def emit(code: Code, symbol: str) -> PrimFunc:
    """`void symbol(const x*, const int8 *constants, [const residual*,] y*, int32 begin, int32 end)`."""
    match code:
        case DenseCode():
            return emit_dense(code, symbol)
        case DepthwiseCode():
            return emit_depthwise(code, symbol)
        case PlainCode():
            return emit_plain(code, symbol)
