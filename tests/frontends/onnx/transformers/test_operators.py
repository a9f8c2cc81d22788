"""Operators of transformers, of ONNX and of com.microsoft: the numbers of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from qir.ir.graph import Graph
from qir.ir.ops import Attention, Positions
from qir.ir.torch_executor import run_float
from qir.ir.types import Array
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
from tests.frontends.onnx.models import one_thread

RNG = np.random.default_rng(0)
KINDS = {
    "f": TensorProto.FLOAT,
    "i": TensorProto.INT32,
    "l": TensorProto.INT64,
    "b": TensorProto.BOOL,
}
LENGTHS = np.array([6, 4], np.int32)
MASK = (np.arange(6) < LENGTHS[:, None]).astype(np.int32)
ANGLES = np.outer(np.arange(16), 1 / 10 ** np.arange(0, 1, 0.125)).astype(np.float32)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def reals(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array],
    output: str = "y",
) -> onnx.ModelProto:  # fmt: skip
    infos = [
        helper.make_tensor_value_info(
            n, KINDS["l" if x.dtype == np.int64 else x.dtype.kind], x.shape
        )
        for n, x in inputs.items()
    ]
    graph = helper.make_graph(
        nodes, "net", infos, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(x, n) for n, x in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def agreed(proto: onnx.ModelProto, inputs: Mapping[str, Array]) -> Graph:
    """The canonical graph, whose numbers and those of the imported one are ONNX Runtime's."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), one_thread())
    (wanted,) = session.run(None, dict(inputs))
    imported = import_onnx(proto)
    canonical = Manager().run(imported, CANONICALIZE)
    for graph in (imported, canonical):
        (found,) = run_float(graph, list(inputs.values()))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return canonical


def node(kind: str, names: str, **attributes: Any) -> onnx.NodeProto:
    """A node of com.microsoft; its inputs by their names, "-" for none."""
    inputs = ["" if n == "-" else n for n in names.split()]
    return helper.make_node(kind, inputs, ["y"], domain="com.microsoft", **attributes)


def only(graph: Graph) -> Attention:
    """The one attention, of rows: nothing moves elements around it."""
    (found,) = (op for op in graph.ops if isinstance(op, Attention))
    assert not {"transpose", "softmax", "matmul", "gather"} & {op.mnemonic for op in graph.ops}
    return found


@pytest.mark.parametrize("masked", ["", "mask", "lengths", "constant"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(masked: str, causal: int) -> None:
    inputs: dict[str, Array] = {"x": reals(2, 6, 16)}
    constants = {"w": reals(16, 48), "b": reals(48)}
    if masked:
        (constants if masked == "constant" else inputs)["mask"] = (
            LENGTHS if masked == "lengths" else MASK
        )
    made = node(
        "Attention", "x w b mask" if masked else "x w b", num_heads=4, unidirectional=causal
    )
    op = only(agreed(model([made], inputs, constants), inputs))
    assert (op.heads, op.kv_heads) == (4, 4)
    assert op.bias is None
    if masked in ("mask", "lengths"):
        assert op.visible is not None and op.visible.type.shape == (2, 1, 1, 6)
    assert op.causal == bool(causal) or masked == "constant"


@pytest.mark.parametrize("masked", ["", "mask", "bias"])
def test_multi_head_attention(masked: str) -> None:
    inputs: dict[str, Array] = {"q": reals(2, 5, 16), "k": reals(2, 6, 16), "v": reals(2, 6, 16)}
    names = "q k v b"
    if masked == "mask":
        inputs["mask"], names = MASK, "q k v b mask"
    if masked == "bias":
        inputs["bias"], names = reals(2, 4, 5, 6), "q k v b - bias"
    made = node("MultiHeadAttention", names, num_heads=4)
    op = only(agreed(model([made], inputs, {"b": reals(48)}), inputs))
    assert (op.bias is not None) == (masked == "bias")


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("window", [-1, 3])
def test_group_query_attention(is_packed: bool, window: int) -> None:
    inputs = {"q": reals(1, 6, 128)} if is_packed else {
        "q": reals(1, 6, 64), "k": reals(1, 6, 32), "v": reals(1, 6, 32)
    }  # fmt: skip
    names = "q - - - - n total cos sin" if is_packed else "q k v - - n total cos sin"
    constants = {
        "n": np.array([5], np.int32), "total": np.array(6, np.int32), "cos": COS, "sin": SIN,
    }  # fmt: skip
    made = node(
        "GroupQueryAttention", names, num_heads=4, kv_num_heads=2, do_rotary=1,
        local_window_size=window,
    )  # fmt: skip
    graph = agreed(model([made], inputs, constants), inputs)
    op = only(graph)
    assert (op.heads, op.kv_heads, op.causal, op.window) == (4, 2, True, max(window, 0))
    assert sum(op.mnemonic == "rope" for op in graph.ops) == 2


@pytest.mark.parametrize("is_interleaved", [0, 1])
def test_rotary_embedding(is_interleaved: int) -> None:
    inputs = {"x": reals(2, 6, 32)}
    places = {"places": np.tile(np.arange(6), (2, 1)), "start": np.array([2])}
    for name, positions in places.items():
        made = node("RotaryEmbedding", f"x {name} cos sin", interleaved=is_interleaved)
        constants = {name: positions, "cos": COS, "sin": SIN}
        graph = agreed(model([made], inputs, constants), inputs)
        assert [op.mnemonic for op in graph.ops] == ["constant", "constant", "rope"]


def test_norms_of_sums() -> None:
    inputs = {"x": reals(2, 6, 16), "skip": reals(2, 6, 16)}
    constants = {"gain": reals(16), "offset": reals(16), "bias": reals(16)}
    made = node("SkipLayerNormalization", "x skip gain offset bias", epsilon=1e-5)
    graph = agreed(model([made], inputs, constants), inputs)
    assert [op.mnemonic for op in graph.ops if op.mnemonic != "constant"] == [
        "add", "add", "layer_norm",
    ]  # fmt: skip
    made = helper.make_node(
        "SkipSimplifiedLayerNormalization", ["x", "skip", "gain", "bias"], ["n", "", "", "s"],
        domain="com.microsoft", epsilon=1e-5,
    )  # fmt: skip
    total = helper.make_node("Add", ["n", "s"], ["y"])
    graph = agreed(model([made, total], inputs, constants), inputs)
    assert sum(op.mnemonic == "rms_norm" for op in graph.ops) == 1
    made = helper.make_node("SimplifiedLayerNormalization", ["x", "gain"], ["y"], epsilon=1e-5)
    graph = agreed(model([made], {"x": inputs["x"]}, constants), {"x": inputs["x"]})
    assert [op.mnemonic for op in graph.ops] == ["constant", "rms_norm"]


def test_embeddings() -> None:
    inputs = {"ids": RNG.integers(0, 9, (2, 6)).astype(np.int32),
              "segments": RNG.integers(0, 2, (2, 6)).astype(np.int32), "mask": MASK}  # fmt: skip
    shapes = {
        "words": (9, 16), "places": (8, 16), "kinds": (2, 16), "gain": (16,), "offset": (16,),
        "w": (16, 48), "b": (48,),
    }  # fmt: skip
    constants = {name: reals(*shape) for name, shape in shapes.items()}
    embed = helper.make_node(
        "EmbedLayerNormalization",
        ["ids", "segments", "words", "places", "kinds", "gain", "offset", "mask"], ["e", "m"],
        domain="com.microsoft", epsilon=1e-5,
    )  # fmt: skip
    made = node("Attention", "e w b m", num_heads=4)
    graph = agreed(model([embed, made], inputs, constants), inputs)
    assert [v.type.elem.bits for v in graph.inputs] == [32, 32, 32]
    assert only(graph).visible is not None


def test_a_mask_written_out() -> None:
    """As exporters write BERT's: (1 - mask) * -10000 added to the scores."""
    inputs = {"q": reals(2, 4, 6, 8), "attention_mask": MASK.astype(np.int64)}
    constants = {"one": np.float32(1), "low": np.float32(-10000), "axes": np.array([1, 2])}
    nodes = [
        helper.make_node("Unsqueeze", ["attention_mask", "axes"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["bits"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "bits"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "low"], ["added"]),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "added"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["weights"]),
        helper.make_node("MatMul", ["weights", "q"], ["y"]),
    ]
    graph = agreed(model(nodes, inputs, constants), inputs)
    (op,) = (op for op in graph.ops if isinstance(op, Attention))
    assert op.bias is None and op.visible is not None


@pytest.mark.parametrize("form", ["equal", "not", "and", "or", "where"])
def test_booleans_of_the_run(form: str) -> None:
    inputs = {"x": reals(2, 6), "mask": MASK.astype(bool if form != "equal" else np.int64)}
    constants = {"zero": np.int64(0), "some": MASK[:1] > 0, "low": np.float32(-np.inf)}
    first = {
        "equal": helper.make_node("Equal", ["mask", "zero"], ["off"]),
        "not": helper.make_node("Not", ["mask"], ["off"]),
        "and": helper.make_node("And", ["mask", "some"], ["on"]),
        "or": helper.make_node("Or", ["mask", "some"], ["on"]),
        "where": helper.make_node("Identity", ["mask"], ["on"]),
    }[form]
    branches = ["off", "low", "x"] if first.output[0] == "off" else ["on", "x", "low"]
    nodes = [
        first,
        helper.make_node("Where", branches, ["s"]),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    agreed(model(nodes, inputs, constants), inputs)


def test_positions_of_ids_that_count() -> None:
    """As exporters write RoBERTa's: cumsum(ids != 1) * (ids != 1) + 1; and other comparisons."""
    rng = np.random.default_rng(3)
    inputs = {"ids": rng.integers(0, 4, (2, 6))}
    constants = {
        "one": np.int64(1), "nothing": np.int32(0), "axis": np.int64(1), "table": reals(8, 5),
        "kinds": np.zeros((2, 8), np.int64), "zero": np.int64(0), "three": np.int64(3),
        "last": np.array([2]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Equal", ["ids", "one"], ["absent"]),
        helper.make_node("Not", ["absent"], ["present"]),
        helper.make_node("Cast", ["present"], ["bits"], to=TensorProto.INT32),
        helper.make_node("CumSum", ["bits", "axis"], ["sums"]),
        helper.make_node("Add", ["sums", "nothing"], ["more"]),
        helper.make_node("Mul", ["more", "bits"], ["counted"]),
        helper.make_node("Cast", ["counted"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Add", ["wide", "one"], ["places"]),
        helper.make_node("GatherElements", ["kinds", "places"], ["kind"], axis=1),
        helper.make_node("Gather", ["table", "places"], ["a"]),
        helper.make_node("Gather", ["table", "kind"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["rows"]),
        helper.make_node("Less", ["zero", "ids"], ["greater"]),
        helper.make_node("GreaterOrEqual", ["three", "ids"], ["no_more"]),
        helper.make_node("And", ["greater", "no_more"], ["between"]),
        helper.make_node("Cast", ["between"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["factor", "last"], ["factors"]),
        helper.make_node("Mul", ["rows", "factors"], ["y"]),
    ]
    graph = agreed(model(nodes, inputs, constants), inputs)
    (found,) = (op for op in graph.ops if isinstance(op, Positions))
    assert (found.first, found.hidden) == (2, 1)


def refusal(
    made: onnx.NodeProto, inputs: Mapping[str, Array], constants: Mapping[str, Array]
) -> str:
    with pytest.raises(FrontendError) as caught:
        import_onnx(model([made], inputs, constants))
    return str(caught.value)


def test_refusals() -> None:
    ids = {"ids": np.ones((2, 3), np.int64)}
    cast = helper.make_node("Cast", ["ids"], ["y"], to=TensorProto.FLOAT)
    assert "ids as floats, an input called mask is needed" in refusal(cast, ids, {})
    made = helper.make_node("Not", ["ids"], ["y"])
    assert "input 0 is a condition on tensor<2x3xi32>, a mask that the caller" in refusal(
        made, ids, {}
    )
    made = helper.make_node("Equal", ["x", "c"], ["y"])
    assert "a comparison of values of the run" in refusal(made, {"x": reals(2)}, {"c": reals(1)})
    made = helper.make_node("Equal", ["ids", "c"], ["y"])
    assert "a comparison of integers with 0.5" in refusal(made, ids, {"c": np.float32(0.5)})
    made = helper.make_node("CumSum", ["ids", "c"], ["y"])
    assert "those of a mask, over tokens, are needed" in refusal(made, ids, {"c": np.int64(1)})
    x = {"x": reals(1, 6, 32)}
    made = node("RotaryEmbedding", "x places cos sin", scale=2.0)
    text = refusal(made, x, {"places": np.array([0]), "cos": COS, "sin": SIN})
    assert "scaled or packed positions, scale 1, is_packed_batching 0 are needed" in text
    made = node("RotaryEmbedding", "x places cos sin")
    text = refusal(made, {**x, "places": np.array([0])}, {"cos": COS, "sin": SIN})
    assert "a start of positions (input 1) computed at run time, a constant is needed" in text
    text = refusal(node("MultiHeadAttention", "x", num_heads=4), x, {})
    assert "packed q, k and v, three inputs are needed" in text
    text = refusal(node("MultiHeadAttention", "x x x", num_heads=5), x, {})
    assert "x is tensor<1x6x32xf32>, 5 heads, (B, N, heads * size) is needed" in text
    made = node("Attention", "x w b - past", num_heads=4)
    text = refusal(made, {**x, "past": reals(2, 1, 4, 2, 8)}, {"w": reals(32, 96), "b": reals(96)})
    assert "past (input 4) is given, none is needed" in text
    made = node("Attention", "x w b", num_heads=4, do_rotary=1)
    text = refusal(made, x, {"w": reals(32, 96), "b": reals(96)})
    assert "do_rotary = 1, 0 is needed" in text
    made = node("GroupQueryAttention", "x - - - - n t", num_heads=2, kv_num_heads=1, softcap=2.0)
    text = refusal(made, x, {"n": np.array([5], np.int32), "t": np.array(6, np.int32)})
    assert "softcap 2, 0 is needed" in text
    made = helper.make_node("SimplifiedLayerNormalization", ["x", "g"], ["y"], axis=1)
    assert "axis 1 of rank 3, the last is needed" in refusal(made, x, {"g": reals(32)})
    made = helper.make_node(
        "SkipLayerNormalization", ["x", "x", "g"], ["y", "mean"], domain="com.microsoft"
    )
    assert "output 1 of training, outputs 0 and 3 are needed" in refusal(made, x, {"g": reals(32)})
