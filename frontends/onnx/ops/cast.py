"""Casts: identities between floats, since qir has one float type."""

from __future__ import annotations

from onnx import TensorProto

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand
from qir.frontends.onnx.ops import boolean
from qir.frontends.onnx.read.inputs import REALS
from qir.frontends.onnx.read.load import type_name
from qir.ir import ops
from qir.ir.op import Value
from qir.ir.types import Int


def cast(ctx: ImportContext) -> Operand:
    """Cast between floats, or of stored integers to their real numbers."""
    return _cast(ctx, ctx.integer("to"))


def cast_like(ctx: ImportContext) -> Operand:
    """CastLike: a cast to the type of the second input."""
    like = ctx.operand(1)
    if isinstance(like, Value):
        return _cast(ctx, TensorProto.FLOAT if like.type.is_float else TensorProto.UNDEFINED)
    return _cast(ctx, TensorProto.FLOAT if like.is_float else TensorProto.UNDEFINED)


def _cast(ctx: ImportContext, to: int) -> Operand:
    x = ctx.operand(0)
    if isinstance(x, Value) and isinstance(x.type.elem, Int):
        return boolean.cast(ctx, x, to == TensorProto.BOOL, to in REALS)
    if to not in REALS:
        ctx.refuse(
            f"a cast to {type_name(to)}",
            "a cast to a float type is needed",
            "integers inside the model come from QuantizeLinear",
        )
    if isinstance(x, ConstantOperand) or x.type.is_float:
        return x
    return integers(ctx, x)


def integers(ctx: ImportContext, x: Value) -> Value:
    """The stored integers of a quantized x, as reals: x / scale + zero_point."""
    quant = x.type.quant
    if not quant.is_per_tensor:
        ctx.refuse(f"integers quantized along axis {quant.axis}", "one scale is needed")
    real = ops.Dequantize(x)
    scale, zero = float(quant.scale.array), int(quant.zero_point.array)
    if (scale, zero) == (1.0, 0):
        return ctx.result(real)
    codes = ops.Div(ctx.emit(real), ctx.constant(scale, "scale"))
    return ctx.result(ops.Add(ctx.emit(codes), ctx.constant(zero, "zero")))
