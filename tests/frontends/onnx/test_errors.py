"""What is wrong with a model as a whole: each error in its own words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from qir.frontends.onnx import import_onnx
from qir.frontends.onnx.table import DEFAULT, HINTS
from qir.ir.errors import FrontendError
from tests.frontends.onnx.models import model, one, reals


def relu() -> onnx.ModelProto:
    return one("Relu", (2, 3))


def add() -> onnx.ModelProto:
    return one("Add", (2, 3), {"b": reals(3)})


def error(proto: object, **given: object) -> str:
    with pytest.raises(FrontendError) as e:
        import_onnx(proto, **given)  # type: ignore[arg-type]
    return str(e.value)


def changed(proto: onnx.ModelProto, change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    change(proto)
    return proto


def test_what_is_no_model(tmp_path: Path) -> None:
    assert error(3) == "model of type int, a path, bytes or onnx.ModelProto is needed"
    missing = tmp_path / "none.onnx"
    assert error(missing) == (
        f"{missing}: cannot be read ([Errno 2] No such file or directory: '{missing}'),"
        " an ONNX file is needed"
    )
    assert error("a\0b").endswith("cannot be read (embedded null byte), an ONNX file is needed")
    assert error(b"") == "model: 0 bytes, an ONNX model is needed"
    cut = relu().SerializeToString()[:-3]
    assert error(cut).startswith(f"model: {len(cut)} bytes that are no ONNX model (")
    assert error(cut).endswith("), a whole .onnx file is needed")


@pytest.mark.parametrize(("opset", "hint"), [
    (6, "convert it with onnx.version_converter"), (99, "install a newer onnx"),
])  # fmt: skip
def test_unknown_opsets(opset: int, hint: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    proto = one("Relu", (2,), opset=opset)
    assert error(proto) == f"model: opset {opset}, 7 to {newest} is needed\nhint: {hint}"


def test_every_unsupported_node_is_listed() -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["v", "i"], name="/head/TopK"),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("LSTM", ["r"], ["h"]),
        helper.make_node("Fancy", ["h"], ["f"], domain="com.acme", name="fancy"),
        helper.make_node("Softmax", ["x"], ["y"], axis=5),
        helper.make_node("Erfinv", ["x"], ["z"]),
    ]
    proto = model(nodes, {"x": (1, 4)}, ["y", "f", "z"], {"k": np.array([2])})
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    assert error(proto) == (
        "model: 5 nodes cannot be imported\n"
        "  TopK '/head/TopK': no such op in qir (hint: cut the model before it, and do this step on"
        " its outputs)\n"
        "  LSTM 'h': no such op in qir (hint: export with the loop unrolled)\n"
        "  com.acme.Fancy 'fancy': no such op in qir (hint: export the model with operators of"
        " ONNX's own domain)\n"
        "  Softmax 'y': axis 5 of rank 2, an axis of the operand is needed\n"
        "  Erfinv 'z': no such op in qir (hint: export it as a function of simpler operators)"
    )


def test_hints_are_for_ops_without_a_function() -> None:
    assert not set(HINTS) & set(DEFAULT)


def test_names() -> None:
    proto = add()
    proto.graph.initializer.append(proto.graph.initializer[0])
    assert error(proto) == "model initializer 'b': defined twice, once is needed"
    proto = relu()
    proto.graph.node.append(proto.graph.node[0])
    assert error(proto) == (
        "model: faults in names\n  Relu 'the_Relu': 'y' is defined twice, once is needed"
    )
    proto = relu()
    proto.graph.node[0].input[0] = "nowhere"
    assert error(proto) == (
        "model: faults in names\n"
        "  Relu 'the_Relu': input 'nowhere' is defined nowhere, a definition is needed"
    )
    proto = changed(relu(), lambda p: p.graph.input.append(p.graph.input[0]))
    assert error(proto) == "model: inputs x defined twice, once is needed"
    proto = changed(relu(), lambda p: setattr(p.graph.output[0], "name", "z"))
    assert error(proto) == "model output 'z': defined nowhere, a definition is needed"


def test_texts_that_are_no_utf8() -> None:
    content = one("Relu", (2,)).SerializeToString()
    assert error(content.replace(b"the_Relu", b"the_\xff\xfelu")) == (
        "model: faults in texts\n"
        "  node b'the_\\xff\\xfelu': b'the_\\xff\\xfelu' is no UTF-8, text is needed"
    )
    graph_input = add().SerializeToString().replace(b"\x01x", b"\x01\xff")
    assert error(graph_input) == "model: name b'\\xff' is no UTF-8, text is needed"


def test_cycles() -> None:
    nodes = [
        helper.make_node("Add", ["x", "c"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["c"]),
    ]
    steps = ["Add 'a'", "Relu 'b'", "Neg 'c'"]
    texts = [
        f"model: nodes in a cycle ({' -> '.join([*turn, turn[0]])}), an order is needed"
        for turn in (steps, [*steps[1:], steps[0]], [steps[2], *steps[:2]])
    ]
    assert error(model(nodes, {"x": (2,)}, ["c"])) in texts


def test_inputs() -> None:
    assert error(relu(), shapes={"z": (1,)}) == (
        "shapes: z given, inputs of the model are needed (x)"
    )
    assert error(relu(), batch=0) == "batch: 0, at least 1 is needed"
    assert error(relu(), batch=4) == "model: batch 4 given, the file's own 2 is needed"
    assert error(relu(), shapes={"x": (2, 4)}) == (
        "model input 'x': shape [2, 4] given, [2, 3] is needed"
    )
    assert error(one("Relu", ("n", 3, "h"))) == (
        "model input 'x': dimension 2 of [n, 3, h] is free, a size is needed\n"
        "hint: shapes={'x': (...)}"
    )
    assert error(one("Relu", (0, 3))) == (
        "model input 'x': shape [0, 3], sizes of at least 1 and 2147483648 elements at most are"
        " needed"
    )
    assert "shape [1048576, 1048576], sizes of" in error(one("Relu", (1 << 20, 1 << 20)))
    proto = changed(relu(), lambda p: p.graph.input[0].type.tensor_type.ClearField("shape"))
    assert error(proto) == (
        "model input 'x': no shape in the file, one is needed\nhint: shapes={'x': (...)}"
    )
    proto = changed(relu(), lambda p: p.graph.input[0].type.sequence_type.SetInParent())
    assert error(proto, shapes={"x": ()}) == (
        "model input 'x': a sequence_type, a tensor is needed"
    )
    proto = model(
        [helper.make_node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"], kind=TensorProto.STRING
    )
    assert error(proto) == "model input 'x': elements of type string, numbers are needed"


def test_two_faults_of_inputs_in_one_error() -> None:
    node = helper.make_node("Add", ["x", "z"], ["y"])
    assert error(model([node], {"x": (1, "a"), "z": (1, "b")}, ["y"])) == (
        "model: inputs\n"
        "  model input 'x': dimension 1 of [1, a] is free, a size is needed\n"
        "  model input 'z': dimension 1 of [1, b] is free, a size is needed\n"
        "hint: shapes={'x': (...)}"
    )


def tensors(proto: onnx.ModelProto) -> TensorProto:
    return proto.graph.initializer[0]


def test_tensors() -> None:
    def text(change: Callable[[TensorProto], object]) -> str:
        return error(changed(add(), lambda p: change(tensors(p))))

    where = "model tensor 'b': "
    assert text(lambda t: setattr(t, "data_type", TensorProto.STRING)) == (
        f"{where}elements of type string, float16 to float64, bfloat16, bool, or integers of 2 to"
        " 64 bits are needed"
    )
    assert "elements of type 99, float16" in text(lambda t: setattr(t, "data_type", 99))
    assert (
        text(lambda t: t.dims.__setitem__(0, -3)) == f"{where}dims [-3], at least 0 each is needed"
    )
    assert text(lambda t: t.dims.__setitem__(0, 1 << 40)) == (
        f"{where}12 bytes of data, {4 << 40} are needed"
    )

    def listed(t: TensorProto) -> None:
        t.ClearField("raw_data")
        t.float_data.extend([1.0, 2.0])

    assert text(listed) == f"{where}2 elements of data, 3 are needed"

    def too_many(t: TensorProto) -> None:
        t.ClearField("raw_data")
        t.float_data.extend([1.0] * 4)

    assert text(too_many).endswith("elements that fit its type and dims are needed")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_name_the_initializer(wrong: float) -> None:
    proto = one("Conv", (1, 2, 4, 4), {"w": np.full((1, 2, 3, 3), wrong)})
    assert error(proto) == (
        "model: 1 node cannot be imported\n"
        "  Conv 'the_Conv': model constant 'w': 18 of 18 elements are NaN or infinite as f32,"
        " finite ones are needed"
    )


def test_constants_of_the_graph() -> None:
    assert error(model([], {}, ["b"], {"b": np.zeros((0, 2), np.float32)})) == (
        "model constant 'b': shape [0, 2], one element or more is needed"
    )


def test_external_data(tmp_path: Path) -> None:
    proto = one("Add", (2, 300), {"b": reals(300)})
    path = tmp_path / "big.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="big.bin", size_threshold=8)
    where = "big.onnx tensor 'b': "
    bare = path.read_bytes()
    assert error(bare) == (
        "model tensor 'b': data in file 'big.bin', data in the model is needed\n"
        "hint: give the path of the model instead of its bytes"
    )

    def text(**entries: str) -> str:
        damaged = onnx.ModelProto.FromString(bare)
        tensor = damaged.graph.initializer[0]
        del tensor.external_data[:]
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        path.write_bytes(damaged.SerializeToString())
        return error(path)

    assert text(location="../secret") == (
        f"{where}data in {tmp_path.parent / 'secret'}, a file in {tmp_path} is needed"
    )
    assert text(location="big.bin", offset="x") == (
        f"{where}external data {{'location': 'big.bin', 'offset': 'x'}}, a location, offset and"
        " length are needed"
    )
    assert text(location="big.bin", offset="0", length="99999") == (
        f"{where}bytes 0 to 99999 of big.bin, at most 1200 are needed"
    )
    assert text(location="none.bin").startswith(f"{where}{tmp_path / 'none.bin'} cannot be read (")


def test_branches() -> None:
    def text(condition: str, **graphs: onnx.GraphProto) -> str:
        node = helper.make_node("If", [condition], ["y"], name="if", **graphs)
        inputs = {"x": (2,), "at_run_time": (1,)}
        return error(model([node], inputs, ["y"], {"c": np.array(True)})).splitlines()[1]

    def branch(nodes: list[NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(nodes, "b", [], [helper.make_empty_tensor_value_info("y1")])

    relus = branch([helper.make_node("Relu", ["x"], ["y1"])])
    assert text("at_run_time", then_branch=relus, else_branch=relus) == (
        "  If 'if': the condition is computed at run time, a constant is needed (hint: give all"
        " dimensions of the inputs (batch, shapes), so that it can be folded)"
    )
    assert text("c", else_branch=relus) == "  If 'if': 0 graphs then_branch, one is needed"
    assert text("c", then_branch=branch([])) == (
        "  If 'if': input 'y1' is defined nowhere, a definition is needed"
    )


def test_functions_that_never_end() -> None:
    body = [helper.make_node("Own", ["a"], ["b"], domain="own")]
    function = helper.make_function(
        "own", "Own", ["a"], ["b"], body, [helper.make_opsetid("own", 1)]
    )
    proto = model([helper.make_node("Own", ["x"], ["y"], domain="own")], {"x": (2,)}, ["y"])
    proto.functions.append(function)
    assert "calls Own -> Own, functions that end are needed" in error(proto)
    del function.node[:]
    proto.functions[0].CopyFrom(function)
    assert "own.Own 'y': output 'b' is defined nowhere, one is needed" in error(proto)


def test_a_result_that_only_the_model_uses() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])
    assert error(model([node], {"x": (1, 1, 4, 4)}, ["y", "i"])).splitlines()[1] == (
        "  MaxPool 'y': output 1 ('i') is used, only the first can be"
    )
    import_onnx(model([node], {"x": (1, 1, 4, 4)}, ["y"]))
