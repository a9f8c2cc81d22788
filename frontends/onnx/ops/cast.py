"""Casts: qir has one float type, so between floats they are nothing."""

from __future__ import annotations

from onnx import TensorProto

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.operands import Known, Operand
from qir.frontends.onnx.read.inputs import REALS
from qir.frontends.onnx.read.load import type_name
from qir.ir import ops
from qir.ir.op import Value


def cast(at: Site) -> Operand:
    """Cast between floats, or of stored integers to their real numbers."""
    return _cast(at, at.integer("to"))


def cast_like(at: Site) -> Operand:
    """CastLike: a cast to the type of the second input."""
    like = at.operand(1)
    if isinstance(like, Value):
        return _cast(at, TensorProto.FLOAT if like.type.is_float else TensorProto.UNDEFINED)
    return _cast(at, TensorProto.FLOAT if like.is_float else TensorProto.UNDEFINED)


def _cast(at: Site, to: int) -> Operand:
    x = at.operand(0)
    if to not in REALS:
        at.refuse(
            f"a cast to {type_name(to)}",
            "a cast to a float type is needed",
            "integers inside the model come from QuantizeLinear",
        )
    if isinstance(x, Known) or x.type.is_float:
        return x
    return integers(at, x)


def integers(at: Site, x: Value) -> Value:
    """The stored integers of a quantized x, as reals: x / scale + zero_point."""
    quant = x.type.quant
    if not quant.is_per_tensor:
        at.refuse(f"integers quantized along axis {quant.axis}", "one scale is needed")
    real = ops.Dequantize(x)
    scale, zero = float(quant.scale.array), int(quant.zero_point.array)
    if (scale, zero) == (1.0, 0):
        return at.result(real)
    whole = ops.Div(at.emit(real), at.constant(scale, "scale"))
    return at.result(ops.Add(at.emit(whole), at.constant(zero, "zero")))
