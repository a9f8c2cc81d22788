"""Small models for the tests, and ONNX Runtime's answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qir.frontends.onnx import import_onnx
from qir.ir.graph import Graph
from qir.ir.torch_executor import run_float
from qir.ir.types import Array

Shape = Sequence[int | str]
onnxruntime.set_default_logger_severity(3)


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of `nodes`; inputs are of one type, outputs have no declared shape."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(n, kind, list(s)) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def one(
    op: str,
    shape: Shape,
    constants: Mapping[str, Array] | None = None,
    opset: int = 17,
    outputs: int = 1,
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node: x of `shape`, then the constants, to y (y0, y1, ...)."""
    domain = str(attributes.pop("domain", ""))
    names = ["y"] if outputs == 1 else [f"y{k}" for k in range(outputs)]
    node = helper.make_node(
        op, ["x", *(constants or {})], names, name=f"the_{op}", domain=domain, **attributes
    )
    return model([node], {"x": shape}, names, constants, opset)


def reals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def one_thread() -> onnxruntime.SessionOptions:
    """Sessions of one thread with exact sums: on x86 without VNNI the default kernels of u8 x i8
    add pairs of products in 16 bits, which saturate.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # its threads spin, and take the core from the tests beside it
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def runtime(proto: onnx.ModelProto, *inputs: Array, optimized: bool = True) -> list[Array]:
    """ONNX Runtime's outputs."""
    options = one_thread()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    names = [i.name for i in session.get_inputs()]
    return [np.asarray(y) for y in session.run(None, dict(zip(names, inputs, strict=True)))]


def agrees(
    proto: onnx.ModelProto, *inputs: Array, within: float = 1e-5, optimized: bool = True
) -> Graph:
    """Import a model and compare its outputs with ONNX Runtime's; the graph, to look at it."""
    graph = import_onnx(proto)
    wanted = runtime(proto, *inputs, optimized=optimized)
    for actual, expected in zip(run_float(graph, inputs), wanted, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected.astype(np.float64), rtol=within, atol=within)
    return graph
