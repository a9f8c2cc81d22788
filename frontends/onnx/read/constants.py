"""Constant nodes in all their forms."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto

from qir.frontends.onnx.operands import ConstantOperand
from qir.frontends.onnx.read.fold import MAX_FOLDED, MAX_RANK
from qir.frontends.onnx.read.load import Model
from qir.ir.errors import SHOWN, FrontendError
from qir.ir.types import Array


def constant(node: NodeProto, model: Model) -> ConstantOperand:
    """The array of a Constant node: value, value_float(s), value_int(s) or sparse_value."""
    if len(node.attribute) != 1 or len(node.output) != 1:
        raise FrontendError(f"{len(node.attribute)} attributes, one that holds the value is needed")
    array = _array(node.attribute[0], model)
    model.budget.spend_bytes(array.nbytes, "a Constant")
    return ConstantOperand(array, node.output[0])


def _array(attribute: Any, model: Model) -> Array:
    match attribute.name:
        case "value":
            return model.array(attribute.t)
        case "value_float":
            return np.array(attribute.f, np.float32)
        case "value_floats":
            return np.array(attribute.floats, np.float32)
        case "value_int":
            return np.array(attribute.i, np.int64)
        case "value_ints":
            return np.array(attribute.ints, np.int64)
        case "sparse_value":
            return dense(attribute.sparse_tensor, model)
        case _:
            raise FrontendError(f"attribute {attribute.name}, numbers are needed")


def dense(sparse: Any, model: Model) -> Array:
    """A SparseTensorProto with its zeros: indices are linear (n,) or coordinates (n, rank)."""
    dims = tuple(sparse.dims)
    if len(dims) > MAX_RANK or min(dims, default=1) < 1 or prod(dims) > MAX_FOLDED:
        raise FrontendError(
            f"sparse tensor of dims {list(dims[:SHOWN])}, at most {MAX_FOLDED} elements are needed"
        )
    values, index = model.array(sparse.values), model.array(sparse.indices)
    fits = index.dtype.kind in "iu" and (index.ndim == 1 or index.shape[1:] == (len(dims),))
    if not fits or values.shape != index.shape[:1]:
        raise FrontendError(
            f"sparse tensor of dims {list(dims)}: values {list(values.shape)}, indices"
            f" {index.dtype} {list(index.shape)}, one place for each value is needed"
        )
    flat = index if index.ndim == 1 else np.ravel_multi_index(tuple(index.T), dims)
    model.budget.spend_bytes(prod(dims) * values.dtype.itemsize, "a sparse tensor")
    result = np.zeros(prod(dims), values.dtype)
    result[flat] = values
    return result.reshape(dims)
