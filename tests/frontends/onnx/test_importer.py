"""What an import keeps: names, places, layout; and what it folds: shapes, branches, functions."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qir.frontends.onnx import import_onnx
from qir.ir import ops
from qir.ir.torch_executor import run_float
from tests.frontends.onnx.models import agrees, model, one, reals


def test_onnx_loads_only_when_asked_for() -> None:
    code = (
        "import sys, qir.frontends as f; assert not {'onnx', 'torch'} & set(sys.modules)\n"
        "f.import_onnx; assert 'onnx' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_of_the_package() -> None:
    import qir.frontends

    with pytest.raises(AttributeError, match=r"'qir\.frontends' has no attribute 'import_keras'"):
        qir.frontends.import_keras  # noqa: B018


def test_file_bytes_and_proto_give_the_same_graph(tmp_path: Path) -> None:
    proto = one("Relu", (1, 3))
    path = tmp_path / "net.v1.onnx"
    path.write_bytes(proto.SerializeToString())
    from_file, from_bytes = import_onnx(path), import_onnx(path.read_bytes())
    assert (from_file.name, from_bytes.name) == ("net.v1", "small")
    assert (
        from_file.canonical().ops
        == from_bytes.canonical().ops
        == import_onnx(proto).canonical().ops
    )
    assert import_onnx(str(path)) == from_file
    assert from_file.ops[0].loc.source == "net.v1.onnx node the_Relu"


def test_names_of_the_model_are_kept_and_made_safe() -> None:
    nodes = [
        helper.make_node("Relu", ["a/b:0"], ["a b"], name="first"),
        helper.make_node("Neg", ["a b"], ["a_b"]),
    ]
    graph = import_onnx(model(nodes, {"a/b:0": (2,)}, ["a_b", "a b"]))
    assert [v.name for v in graph.inputs] == ["a_b_0"]
    assert [op.names for op in graph.ops] == [("a_b",), ("a_b1",)]
    assert graph.output_names == ("a_b", "a b")
    assert [op.loc.source for op in graph.ops] == ["model node first", "model node a_b"]


def test_convolutions_stand_between_transposes() -> None:
    graph = agrees(one("Conv", (1, 3, 5, 5), {"w": reals(4, 3, 3, 3)}), reals(1, 3, 5, 5))
    kinds = [type(op) for op in graph.ops]
    assert kinds == [ops.Transpose, ops.Constant, ops.Conv, ops.Transpose]
    constant = graph.ops[1]
    assert isinstance(constant, ops.Constant)
    assert constant.value.shape == (4, 3, 3, 3) and constant.names == ("w",)
    assert constant.loc.source == "model constant w"
    assert graph.outputs[0].name == "y"


def test_initializers_may_be_listed_as_inputs() -> None:
    proto = one("Add", (2, 3), {"b": reals(3)})
    proto.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, (3,)))
    assert [v.name for v in import_onnx(proto).inputs] == ["x"]


def test_free_sizes_are_fixed() -> None:
    proto = one("Relu", ("n", 3, "h", "h"))
    shape = import_onnx(proto, shapes={"x": (2, 3, 8, 8)}).inputs[0].type.shape
    assert shape == (2, 3, 8, 8)
    assert import_onnx(one("Relu", ("n", 3))).inputs[0].type.shape == (1, 3)
    assert import_onnx(one("Relu", ("n", 3)), batch=5).inputs[0].type.shape == (5, 3)
    assert import_onnx(one("Relu", (-1, 3)), batch=5).inputs[0].type.shape == (5, 3)


def test_one_symbol_has_one_size() -> None:
    node = helper.make_node("Add", ["x", "z"], ["y"])
    proto = model([node], {"x": ("n", "c"), "z": (4, "c")}, ["y"])
    graph = import_onnx(proto, batch=4, shapes={"z": (4, 7)})
    assert [v.type.shape for v in graph.inputs] == [(4, 7), (4, 7)]


def test_shape_arithmetic_is_folded() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "i"], ["n"]),
        helper.make_node("Constant", [], ["one"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["n", "one"], ["u"]),
        helper.make_node("Cast", ["rest"], ["r"], to=TensorProto.INT64),
        helper.make_node("Concat", ["u", "r"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"i": np.array(0), "rest": np.array([-1.0], np.float32)}
    proto = model(nodes, {"x": ("n", 3, 4)}, ["y"], constants)
    graph = import_onnx(proto, batch=2)
    assert [type(op) for op in graph.ops] == [ops.Reshape]
    assert graph.outputs[0].type.shape == (2, 12)


def test_constants_alone_become_an_output() -> None:
    nodes = [helper.make_node("Range", ["a", "b", "c"], ["y"])]
    constants = {"a": np.array(1), "b": np.array(9), "c": np.array(3)}
    (actual,) = run_float(import_onnx(model(nodes, {}, ["y"], constants)), [])
    assert actual.tolist() == [1, 4, 7]


@pytest.mark.parametrize("value", [True, False])
def test_a_constant_condition_takes_its_branch(value: bool) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, ["x"], ["inner"])],
            name,
            [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, (2,))],
        )
        for name, op in (("then_branch", "Relu"), ("else_branch", "Det"))
    }
    node = helper.make_node("If", ["c"], ["y"], **branches)
    proto = model([node], {"x": (2,)}, ["y"], {"c": np.array(value)})
    if value:
        assert [type(op) for op in import_onnx(proto).ops] == [ops.Relu]
    else:
        with pytest.raises(Exception, match="Det 'inner': no such op in qir"):
            import_onnx(proto)


def test_functions_of_the_model_are_imported_in_place() -> None:
    body = [
        helper.make_node("LeakyRelu", ["a"], ["t"]),
        helper.make_node("Add", ["t", "b"], ["c"], name="sum"),
    ]
    body[0].attribute.add(name="alpha", ref_attr_name="k", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "own", "Leak", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)], ["k"]
    )
    nodes = [
        helper.make_node("Leak", ["x", "w"], ["m"], domain="own", name="one", k=0.25),
        helper.make_node("Leak", ["m", "w"], ["y"], domain="own", name="two"),
    ]
    proto = model(nodes, {"x": (3,)}, ["y"], {"w": reals(3)})
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    graph = agrees(proto, reals(3))
    assert [op.alpha for op in graph.ops if isinstance(op, ops.LeakyRelu)] == [
        0.25,
        pytest.approx(0.01),
    ]
    assert "model node one/sum" in {op.loc.source for op in graph.ops}


def test_external_data_beside_the_file(tmp_path: Path) -> None:
    proto = one("Add", (2, 300), {"b": reals(300)})
    path = tmp_path / "big.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="big.bin", size_threshold=8)
    x = reals(2, 300, seed=1)
    (actual,) = run_float(import_onnx(path), [x])
    np.testing.assert_array_equal(actual, x + reals(300))


def test_nodes_in_any_order() -> None:
    nodes = [helper.make_node("Neg", ["m"], ["y"]), helper.make_node("Relu", ["x"], ["m"])]
    assert [type(op) for op in import_onnx(model(nodes, {"x": (2,)}, ["y"])).ops] == [
        ops.Relu,
        ops.Neg,
    ]


def test_a_sparse_constant_is_filled_with_zeros() -> None:
    values = numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "v")
    index = numpy_helper.from_array(np.array([1, 5]), "i")
    sparse = helper.make_sparse_tensor(values, index, [2, 3])
    node = helper.make_node("Constant", [], ["y"], sparse_value=sparse)
    (actual,) = run_float(import_onnx(model([node], {}, ["y"])), [])
    assert actual.tolist() == [[0, 2, 0], [0, 0, 3]]


def test_equal_constants_are_written_once() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = import_onnx(model(nodes, {"x": (1, 3, 5, 5)}, ["y"], {"w": reals(3, 3, 3, 3)}))
    assert sum(isinstance(op, ops.Constant) for op in graph.ops) == 1


def test_a_long_chain_imports_in_linear_time() -> None:
    names = ["x", *(f"v{k}" for k in range(20_000)), "y"]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)]
    assert len(import_onnx(model(nodes, {"x": (2,)}, ["y"])).ops) == 20_001
