"""Scale and zero point of integer inputs, taken from the nodes that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto

from qir.frontends.onnx.operands import ConstantOperand, Operand, as_float
from qir.ir.types import I32, I64, STORAGES, Int, Quant, Tensor

# Op -> the inputs that hold stored integers, each followed by its scale and zero point.
READERS = {
    "DequantizeLinear": (0,),
    "QGemm": (0,),
    "QLinearAdd": (0, 3),
    "QLinearAveragePool": (0,),
    "QLinearConv": (0,),
    "QLinearGlobalAveragePool": (0,),
    "QLinearLeakyRelu": (0,),
    "QLinearMatMul": (0, 3),
    "QLinearMul": (0, 3),
    "QLinearReduceMean": (0,),
    "QLinearSigmoid": (0,),
    "QLinearSoftmax": (0,),
}
# Op -> the inputs that hold ids, places and masks.
INDICES = {
    "Attention": (3,),
    "EmbedLayerNormalization": (0, 1, 7, 8),
    "Gather": (1,),
    "GroupQueryAttention": (5, 6),
    "MultiHeadAttention": (4,),
    "RotaryEmbedding": (1,),
}


def with_scales(
    types: Mapping[str, Tensor], nodes: Sequence[NodeProto], scope: Mapping[str, Operand | None]
) -> dict[str, Tensor]:
    """`types` with integer inputs quantized as their first reader says, else by scale 1, zero 0.

    Of 64 bits they are indices, and so are those of 32 bits that a node reads as such: plain i32.
    """
    new_types = dict(types)
    names: set[str] = set()
    for node in nodes:
        for place in READERS.get(node.op_type, ()):
            if len(node.input) < place + 2 or node.input[place] not in types:
                continue
            name, elem = node.input[place], types[node.input[place]].elem
            quant = _quant_of(elem, node, place, scope) if isinstance(elem, Int) else None
            if quant is not None and name not in names:
                new_types[name] = Tensor(types[name].shape, quant)
                names.add(name)
    indices = {n.input[k] for n in nodes for k in INDICES.get(n.op_type, ()) if k < len(n.input)}
    for name, type_ in types.items():
        if type_.elem == I64 or (type_.elem == I32 and name in indices):
            new_types[name] = Tensor(type_.shape, I32)
        elif name not in names and isinstance(type_.elem, Int) and type_.elem in STORAGES:
            new_types[name] = Tensor(type_.shape, Quant.per_tensor(type_.elem, 1.0, 0))
    return new_types


def _quant_of(
    storage: Int, node: NodeProto, place: int, scope: Mapping[str, Operand | None]
) -> Quant | None:
    """The quantization of one tensor that the node reads it with, None where it is no constant."""
    names = node.input[place + 1 : place + 3]
    operands = [scope.get(name) for name in names if name]
    arrays = [o.array for o in operands if isinstance(o, ConstantOperand) and o.array.size == 1]
    if storage not in STORAGES or len(arrays) != len(operands) or not arrays:
        return None
    scale = float(as_float(arrays[0]).reshape(-1)[0])
    zero = int(arrays[1].astype(np.int64).reshape(-1)[0]) if len(arrays) > 1 else 0
    if not (np.isfinite(scale) and scale > 0 and storage.min <= zero <= storage.max):
        return None
    return Quant.per_tensor(storage, scale, zero)
