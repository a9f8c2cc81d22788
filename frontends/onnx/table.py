"""The table from operators to import functions, and the alternatives for unsupported ones."""

from __future__ import annotations

from collections.abc import Callable

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import Operand
from qir.frontends.onnx.ops import (
    boolean,
    cast,
    convolution,
    elementwise,
    matrix,
    normalization,
    padding,
    pooling,
    reduce,
    resize,
    select,
    shapes,
    softmax,  # fmt: skip
)
from qir.frontends.onnx.ops.elementwise import binary, many, unary
from qir.frontends.onnx.quantized import microsoft
from qir.frontends.onnx.quantized import operators as quantized
from qir.frontends.onnx.transformers import attention, norms
from qir.frontends.onnx.transformers import microsoft as fused
from qir.ir import ops

Converter = Callable[[ImportContext], Operand | tuple[Operand, ...]]

DEFAULT: dict[str, Converter] = {
    "Abs": unary(ops.Abs),
    "Add": elementwise.add,
    "And": boolean.conjunction,
    "Attention": attention.attention,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalization.batch_norm,
    "Cast": cast.cast,
    "CastLike": cast.cast_like,
    "Celu": elementwise.celu,
    "Clip": elementwise.clip,
    "Concat": shapes.concat,
    "Conv": convolution.conv,
    "ConvInteger": quantized.conv_integer,
    "ConvTranspose": convolution.conv_transpose,
    "CumSum": boolean.mask_positions,
    "DepthToSpace": shapes.depth_to_space,
    "DequantizeLinear": quantized.dequantize_linear,
    "Div": binary(ops.Div),
    "Dropout": shapes.dropout,
    "DynamicQuantizeLinear": quantized.dynamic_quantize_linear,
    "Elu": elementwise.elu,
    "Equal": boolean.comparison("eq", "eq"),
    "Erf": unary(ops.Erf),
    "Exp": unary(ops.Exp),
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Gather": shapes.gather,
    "GatherElements": shapes.gather_elements,
    "Gelu": elementwise.gelu,
    "Gemm": matrix.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalLpPool": pooling.global_lp_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Greater": boolean.comparison("gt", "lt"),
    "GreaterOrEqual": boolean.comparison("ge", "le"),
    "GroupNormalization": normalization.group_norm,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.hard_swish,
    "Identity": shapes.identity,
    "InstanceNormalization": normalization.instance_norm,
    "IsNaN": select.is_nan,
    "LRN": normalization.lrn,
    "LayerNormalization": normalization.layer_norm,
    "LeakyRelu": elementwise.leaky_relu,
    "Less": boolean.comparison("lt", "gt"),
    "LessOrEqual": boolean.comparison("le", "ge"),
    "Log": unary(ops.Log),
    "LogSoftmax": softmax.log_softmax,
    "LpNormalization": normalization.lp_norm,
    "LpPool": pooling.lp_pool,
    "MatMul": matrix.matmul,
    "MatMulInteger": quantized.matmul_integer,
    "Max": many(ops.Maximum),
    "MaxPool": pooling.max_pool,
    "Mean": elementwise.mean,
    "MeanVarianceNormalization": normalization.mean_variance_norm,
    "Min": many(ops.Minimum),
    "Mish": elementwise.mish,
    "Mul": elementwise.multiply,
    "Neg": unary(ops.Neg),
    "Not": boolean.opposite,
    "Or": boolean.disjunction,
    "PRelu": elementwise.prelu,
    "Pad": padding.pad,
    "Pow": elementwise.power,
    "QLinearConv": quantized.qlinear_conv,
    "QLinearMatMul": quantized.qlinear_matmul,
    "QuantizeLinear": quantized.quantize_linear,
    "RMSNormalization": normalization.rms_norm,
    "Reciprocal": unary(ops.Reciprocal),
    "ReduceL1": reduce.reduce_l1,
    "ReduceL2": reduce.reduce_l2,
    "ReduceLogSum": reduce.reduce_log_sum,
    "ReduceLogSumExp": reduce.reduce_log_sum_exp,
    "ReduceMax": reduce.reduce_max,
    "ReduceMean": reduce.reduce_mean,
    "ReduceMin": reduce.reduce_min,
    "ReduceSum": reduce.reduce_sum,
    "ReduceSumSquare": reduce.reduce_sum_square,
    "Relu": elementwise.relu,
    "Reshape": shapes.reshape,
    "Resize": resize.resize,
    "RotaryEmbedding": attention.rotary_embedding,
    "Selu": elementwise.selu,
    "Shape": shapes.shape,
    "Sigmoid": unary(ops.Sigmoid),
    "SimplifiedLayerNormalization": norms.simplified_layer_norm,  # as ONNX Runtime writes it
    "Size": shapes.size,
    "Slice": shapes.slice_,
    "Softmax": softmax.softmax,
    "Softplus": unary(ops.Softplus),
    "Softsign": elementwise.softsign,
    "SpaceToDepth": shapes.space_to_depth,
    "Split": shapes.split,
    "Sqrt": unary(ops.Sqrt),
    "Squeeze": shapes.squeeze,
    "Sub": elementwise.subtract,
    "Sum": many(ops.Add),
    "Swish": elementwise.swish,
    "Tanh": unary(ops.Tanh),
    "Tile": shapes.tile,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
    "Upsample": resize.upsample,
    "Where": select.where,
}

MICROSOFT: dict[str, Converter] = {
    "Attention": fused.attention,
    "BiasGelu": microsoft.bias_gelu,
    "DequantizeLinear": quantized.dequantize_linear,
    "DynamicQuantizeMatMul": microsoft.dynamic_quantize_matmul,
    "EmbedLayerNormalization": norms.embed_layer_norm,
    "FastGelu": microsoft.fast_gelu,
    "FusedConv": microsoft.fused_conv,
    "FusedGemm": microsoft.fused_gemm,
    "FusedMatMul": microsoft.fused_matmul,
    "Gelu": microsoft.exact_gelu,
    "GroupQueryAttention": fused.group_query_attention,
    "MatMulIntegerToFloat": microsoft.matmul_integer_to_float,
    "MatMulNBits": microsoft.matmul_nbits,
    "MultiHeadAttention": fused.multi_head_attention,
    "QGemm": microsoft.qgemm,
    "QLinearAdd": microsoft.qlinear_binary(ops.Add),
    "QLinearAveragePool": microsoft.qlinear_average_pool,
    "QLinearConcat": microsoft.qlinear_concat,
    "QLinearGlobalAveragePool": microsoft.qlinear_global_average_pool,
    "QLinearLeakyRelu": microsoft.qlinear_leaky_relu,
    "QLinearMul": microsoft.qlinear_binary(ops.Mul),
    "QLinearReduceMean": microsoft.qlinear_reduce_mean,
    "QLinearSigmoid": microsoft.qlinear_sigmoid,
    "QLinearSoftmax": microsoft.qlinear_softmax,
    "QuantizeLinear": quantized.quantize_linear,
    "QuickGelu": microsoft.quick_gelu,
    "RotaryEmbedding": fused.rotary_embedding,
    "SimplifiedLayerNormalization": norms.simplified_layer_norm,
    "SkipLayerNormalization": norms.skip_layer_norm,
    "SkipSimplifiedLayerNormalization": norms.skip_simplified_layer_norm,
}

TABLE: dict[str, dict[str, Converter]] = {"": DEFAULT, "com.microsoft": MICROSOFT}

_OUTSIDE = "cut the model before it, and do this step on its outputs"
_UNROLL = "export with the loop unrolled"
_SMOOTH = "Clip, Max, Min or a multiplication by a constant mask is the nearest"

# Op without a function -> the nearest form that has one.
HINTS: dict[str, str] = {
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "TopK", "Unique"), _OUTSIDE
    ),
    **dict.fromkeys(("GRU", "LSTM", "Loop", "RNN", "Scan"), _UNROLL),
    **dict.fromkeys(("Xor",), _SMOOTH),
    **dict.fromkeys(("Ceil", "Floor", "Round"), "leave rounding to the quantization"),
    **dict.fromkeys(("GatherND", "ScatterND"), "Gather by a constant is the nearest"),
    **dict.fromkeys(("GridSample", "MaxRoiPool", "RoiAlign"), "Resize is the nearest"),
    "Einsum": "export it as MatMul, Transpose and Reshape",
    "Hardmax": "Softmax is the nearest",
    "MaxUnpool": "ConvTranspose or Resize is the nearest",
    "Shrink": "Relu is the nearest",
    "ThresholdedRelu": "Relu is the nearest",
}


def lookup(domain: str, op_type: str) -> Converter | None:
    return TABLE.get(domain, {}).get(op_type)


def hint_for(domain: str, op_type: str) -> str:
    """The nearest supported form of an op that is not in the table."""
    if domain not in TABLE:
        return "export the model with operators of ONNX's own domain"
    return HINTS.get(op_type, "export it as a function of simpler operators")
