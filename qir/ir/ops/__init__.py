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
from qir.ir.ops.sequence.attention import Attention, AttentionFixed
from qir.ir.ops.sequence.curve import Interpolate
from qir.ir.ops.sequence.embedding import Embed, SliceRows, Take, WriteRows
from qir.ir.ops.sequence.hadamard import Hadamard
from qir.ir.ops.sequence.ids import Positions, Within
from qir.ir.ops.sequence.norm import NormFixed, RmsNorm
from qir.ir.ops.sequence.packing import PackRows, RoundBlocks, UnpackRows
from qir.ir.ops.sequence.rope import Rope, RopeFixed
from qir.ir.ops.sequence.row_blocks import QuantizeRowBlocks, RoundRowBlocks
from qir.ir.ops.sequence.rows import QuantizeRows, RoundRows, RowScale, ScaleRows
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
    "Abs", "Add", "Attention", "AttentionFixed", "AvgPool", "BatchNorm", "Bilinear", "Clip",
    "Concat", "Constant", "Conv", "ConvTranspose", "Dequantize", "Div", "Elu", "Embed", "Erf",
    "Exp", "Expand", "Gather", "Gelu", "Hadamard", "HardSigmoid", "HardSwish", "Interpolate",
    "LayerNorm", "LeakyRelu", "Linear", "Log", "Lookup", "MatMul", "MaxPool", "Maximum", "Minimum",
    "Mul", "Neg", "NormFixed", "PRelu", "PackRows", "Pad", "PadMode", "Positions", "Pow",
    "Quantize", "QuantizeRowBlocks", "QuantizeRows", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceSum", "Relu", "Requantize", "Reshape", "RmsNorm", "Rope", "RopeFixed", "RoundBlocks",
    "RoundRowBlocks", "RoundRows", "RowScale", "Rsqrt", "ScaleGroups", "ScaleRows", "Sigmoid",
    "Silu", "Slice", "SliceRows", "Softmax", "SoftmaxFixed", "Softplus", "Sqrt", "Sub", "Take",
    "Tanh", "Transpose", "Unary", "UnpackRows", "Within", "WriteRows",
]  # fmt: skip
