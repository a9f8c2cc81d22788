"""One file per op family; importing this package makes every op known to the parser."""

from qir.ir.ops.constant import Constant
from qir.ir.ops.conv import Conv, ConvTranspose
from qir.ir.ops.elementwise import Add, Div, Maximum, Minimum, Mul, Pow, Sub
from qir.ir.ops.linear import Linear, MatMul
from qir.ir.ops.lookup import Lookup
from qir.ir.ops.norm import BatchNorm, LayerNorm
from qir.ir.ops.pad import Pad, PadMode
from qir.ir.ops.pool import AvgPool, MaxPool
from qir.ir.ops.quantize import Dequantize, Quantize
from qir.ir.ops.reduce import ReduceMax, ReduceMean, ReduceSum
from qir.ir.ops.requantize import Requantize
from qir.ir.ops.resize import Bilinear
from qir.ir.ops.scale_groups import ScaleGroups
from qir.ir.ops.shape import Concat, Expand, Gather, Reshape, Slice, Transpose
from qir.ir.ops.softmax import Softmax, SoftmaxFixed
from qir.ir.ops.unary import (
    Abs,
    Clip,
    Elu,
    Erf,
    Exp,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Log,
    Neg,
    PRelu,
    Reciprocal,
    Relu,
    Rsqrt,
    Sigmoid,
    Silu,
    Softplus,
    Sqrt,
    Tanh,
    Unary,
)  # fmt: skip

__all__ = [
    "Abs", "Add", "AvgPool", "BatchNorm", "Bilinear", "Clip", "Concat", "Constant", "Conv",
    "ConvTranspose", "Dequantize", "Div", "Elu", "Erf", "Exp", "Expand", "Gather", "Gelu",
    "HardSigmoid", "HardSwish", "LayerNorm", "LeakyRelu", "Linear", "Log", "Lookup", "MatMul",
    "MaxPool", "Maximum", "Minimum", "Mul", "Neg", "PRelu", "Pad", "PadMode", "Pow", "Quantize",
    "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Requantize", "Reshape", "Rsqrt",
    "ScaleGroups", "Sigmoid", "Silu", "Slice", "Softmax", "SoftmaxFixed", "Softplus", "Sqrt", "Sub",
    "Tanh", "Transpose", "Unary",
]  # fmt: skip
