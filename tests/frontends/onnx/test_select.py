"""Where, masks and checks for NaN, as ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from qir.ir.types import Array
from tests.frontends.onnx.models import agrees, model, reals

MASK = np.random.default_rng(0).random((6, 6)) > 0.4
np.fill_diagonal(MASK, True)
INF = np.float32(np.inf)


def node(op: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


@pytest.mark.parametrize("shape", [(6, 6), (1, 6), (6, 1), (4, 1, 6), (2, 4, 6, 6)], ids=str)
def test_where_by_a_constant(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(1).random(shape) > 0.5
    mask.reshape(-1)[:2] = True, False
    nodes = [node("Where", "m a b", "y"), node("Where", "m a f", "z")]
    constants = {"m": mask, "f": np.float32(-7)}
    proto = model(nodes, {"a": (2, 4, 6, 6), "b": (6,)}, ["y", "z"], constants)
    agrees(proto, reals(2, 4, 6, 6), reals(6, seed=1), within=0)


@pytest.mark.parametrize("value", [True, False])
def test_a_where_that_takes_one_side_is_that_side(value: bool) -> None:
    constants = {"m": np.full((6, 1), value), "f": np.float32(3)}
    graph = agrees(
        model([node("Where", "m a f", "y")], {"a": (6, 6)}, ["y"], constants), reals(6, 6)
    )
    assert [op.mnemonic for op in graph.ops] == ([] if value else ["constant", "expand"])


def test_what_is_under_the_mask_does_not_matter() -> None:
    nodes = [node("Log", "a", "l"), node("Where", "m f l", "y")]
    proto = model(nodes, {"a": (6, 6)}, ["y"], {"m": ~MASK, "f": np.float32(5)})
    x = np.where(MASK, 1.5, 0).astype(np.float32)
    agrees(proto, x)


@pytest.mark.parametrize("form", ["add", "where"])
def test_infinite_masks_before_a_softmax(form: str) -> None:
    constants: dict[str, Array] = {"k": np.where(MASK, 0, -INF).astype(np.float32), "m": MASK,
                                   "f": -INF, "zero": np.float32(0)}  # fmt: skip
    first = node("Add", "a k", "s") if form == "add" else node("Where", "m a f", "s")
    nodes = [
        first,
        node("Softmax", "s", "p"),
        node("IsNaN", "p", "n"),
        node("Where", "n zero p", "y"),
    ]
    agrees(model(nodes, {"a": (2, 6, 6)}, ["y"], constants), reals(2, 6, 6))


def test_a_mask_in_a_function_before_a_softmax() -> None:
    ops = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [node("Add", "a k", "s"), node("Softmax", "s", "p")]
    function = helper.make_function("own", "Masked", ["a", "k"], ["p"], body, ops)
    nodes = [
        node("Masked", "a k", "b", domain="own"),
        node("Add", "b k", "s"),
        node("Softmax", "s", "y"),
    ]
    mask = np.where(MASK, 0, -INF).astype(np.float32)
    plain = model(nodes, {"a": (2, 6, 6)}, ["y"], {"k": mask})
    proto = helper.make_model(plain.graph, opset_imports=ops, functions=[function], ir_version=9)
    agrees(proto, reals(2, 6, 6))


def refused(proto: onnx.ModelProto) -> str:
    with pytest.raises(FrontendError) as e:
        import_onnx(proto)
    return str(e.value)


def test_what_is_refused() -> None:
    nodes = [node("Add", "a k", "s"), node("Softmax", "s", "y")]
    hidden = np.where(MASK & (np.arange(6) != 2)[:, None], 0, -INF).astype(np.float32)
    text = refused(model(nodes, {"a": (6, 6)}, ["y"], {"k": hidden}))
    assert "a mask that hides a row altogether, one element or more of each is needed" in text
    text = refused(model([node("Add", "a k", "y")], {"a": (6, 6)}, ["y"], {"k": hidden}))
    assert "elements are NaN or infinite as f32" in text
    text = refused(model([node("IsNaN", "a", "y")], {"a": (6, 6)}, ["y"]))
    assert "IsNaN of values of the run, IsNaN behind a Softmax, or none, is needed" in text
    inputs = {"a": (6, 6), "m": (6, 6)}
    text = refused(model([node("Where", "m a a", "y")], inputs, ["y"], kind=TensorProto.BOOL))
    assert "the condition (input 0) is computed at run time, a constant is needed" in text
