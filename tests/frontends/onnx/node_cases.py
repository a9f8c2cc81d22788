"""Runs the node cases of onnx's own backend tests through the importer and the torch executor."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from qir.frontends.onnx import import_onnx
from qir.frontends.onnx.read.fold import FOLDED
from qir.frontends.onnx.table import DEFAULT
from qir.ir.torch_executor import run_float
from qir.ir.types import Array, integer_of

# Op -> the inputs that its cases feed at run time and that models hold as constants; for others,
# the integer and boolean inputs behind the first.
CONSTANTS = {
    "ConvInteger": (1, 2, 3),
    "CumSum": (0, 1),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "GatherElements": (0, 1),
    "Greater": (0, 1),
    "GreaterOrEqual": (0, 1),
    "Less": (0, 1),
    "LessOrEqual": (0, 1),
    "MatMulInteger": (1, 2, 3),
    "Pad": (1, 2, 3),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
BFLOAT16 = 2**-8  # half a step of what the reference rounds to, qir does not
WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


@cache
def node_cases() -> dict[str, Any]:
    """Every case of one node, by name, whose op is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases divide by zero on purpose
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    return {
        c.name: c
        for c in cases
        if len(c.model.graph.node) == 1 and op_of(c) in {*DEFAULT, *FOLDED} - {"Constant"}
    }


def op_of(case: Any) -> str:
    node = case.model.graph.node[0]
    return str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def frozen(case: Any, inputs: list[Any]) -> tuple[onnx.ModelProto, list[Array]]:
    """The case's model with its constants as initializers, and the inputs that remain."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    node = model.graph.node[0]
    op = op_of(case)
    given = dict(zip((i.name for i in model.graph.input), inputs, strict=True))
    kinds = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    only_folded = op in FOLDED and op not in DEFAULT
    constant = {
        name
        for place, name in enumerate(node.input)
        if (name in given and (only_folded or place in CONSTANTS.get(op, ())))
        or (place and op not in CONSTANTS and kinds.get(name) in WHOLE)
    }
    for name in constant:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(given[name]), name))
    inputs_at_run_time = [i for i in model.graph.input if i.name not in constant]
    del model.graph.input[:]
    model.graph.input.extend(inputs_at_run_time)
    return model, [np.asarray(given[i.name]) for i in inputs_at_run_time]


def run(case: Any) -> None:
    """Import and run one case; raises when it is refused or its numbers differ."""
    for inputs, expected in case.data_sets:
        model, rest = frozen(case, [array_of(x) for x in inputs])
        graph = import_onnx(model)
        assert graph.output_names == tuple(o.name for o in model.graph.output)
        feeds = [_fed(x, v.type.elem) for x, v in zip(rest, graph.inputs, strict=True)]
        for actual, want in zip(run_float(graph, feeds), expected, strict=True):
            reals = array_of(want).astype(np.float32)
            assert actual.shape == reals.shape
            within = BFLOAT16 if array_of(want).dtype.name == "bfloat16" else case.rtol
            np.testing.assert_allclose(actual.astype(np.float32), reals, rtol=within, atol=1e-5)


def array_of(x: Any) -> Array:
    """Cases of types that NumPy lacks hold a TensorProto."""
    return np.asarray(numpy_helper.to_array(x) if isinstance(x, TensorProto) else x)


def _fed(x: Array, elem: Any) -> Array:
    return x.astype(np.int64) if integer_of(elem) is not None else x.astype(np.float32)
