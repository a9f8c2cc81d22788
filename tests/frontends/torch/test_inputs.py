"""What people hand over: floats of every width, bytes, nested inputs, files, None among outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qir.frontends.torch import import_torch
from qir.ir.graph import Graph
from qir.ir.torch_executor import run_float
from qir.ir.types import F32
from qir.models import imported
from tests.frontends.onnx.models import model
from tests.frontends.torch.agreement import Function, inputs

X = inputs((2, 4))[0]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()


def same(graph: Graph, *expected: torch.Tensor, within: float = 1e-5) -> None:
    assert all(value.type.elem == F32 for value in graph.inputs)
    outputs = run_float(graph, [X.numpy()] * len(graph.inputs))
    assert len(outputs) == len(expected)
    for y, want in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y, want.detach().float().numpy(), rtol=within, atol=within)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.uint8, np.int8])
def test_examples_of_other_types_are_taken_as_the_models(kind: type) -> None:
    same(import_torch(net(), (X.numpy().astype(kind),)), net()(X))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_floats_become_f32(kind: torch.dtype) -> None:
    expected = net().to(kind).float()(X)
    narrow = net().to(kind)
    same(import_torch(narrow, (X,)), expected)
    same(import_torch(torch.export.export(narrow, (X.to(kind),))), expected)


def test_casts_between_floats_are_nothing() -> None:
    module = Function(lambda x: (x.double() * 2).half().to(torch.bfloat16).float())
    same(import_torch(module, (X,)), X * 2)


def test_nested_inputs() -> None:
    module = Function(lambda pair, named: pair[0] - 2 * pair[1] + named["c"])
    examples: Any = ((X, X), {"c": X})
    graph = import_torch(module, examples)
    assert len(graph.inputs) == 3
    same(graph, X - 2 * X + X)


def test_none_among_outputs_is_left_out() -> None:
    graph = import_torch(Function(lambda x: {"a": x + 1, "b": None, "c": x * 2}), (X,))
    assert graph.output_names == ("a", "c")
    same(graph, X + 1, X * 2)


def test_an_exported_program_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net(), (X,)), path)
    same(import_torch(path), net()(X))
    same(imported(str(path)), net()(X))


class ONNXProgram:
    """As torch.onnx.export gives it, which needs onnxscript."""

    def __init__(self, model_proto: onnx.ModelProto) -> None:
        self.model_proto = model_proto


def test_a_program_of_torch_onnx() -> None:
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    same(imported(ONNXProgram(model([relu], {"x": (2, 4)}, ["y"]))), X.relu())
