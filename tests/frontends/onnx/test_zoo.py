"""The zoo's networks: the same numbers as ONNX Runtime, and a text that reads back."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnxruntime
import pytest

from qir.frontends.onnx import import_onnx
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.torch_executor import run_float
from qir.ir.types import I32, Tensor
from tests.frontends.onnx.models import one_thread

NETWORKS = (
    "resnet8", "resnet20", "dscnn", "vww", "mobilenetv1_025", "mobilenetv2", "squeezenet",
    "ultraface", "autoencoder",
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_equal_those_of_onnx_runtime(zoo: ModuleType, name: str) -> None:
    case = zoo.ZOO[name]
    graph = import_onnx(case.model, batch=None if name == "ultraface" else 2)
    session = onnxruntime.InferenceSession(str(case.model), one_thread())
    (fed,) = session.get_inputs()
    x = case.inputs()[: graph.inputs[0].type.shape[0]]
    wanted = session.run(None, {fed.name: x})
    assert graph.stage == "imported"
    assert graph.inputs[0].name == fed.name
    assert graph.output_names == tuple(o.name for o in session.get_outputs())
    for actual, expected in zip(run_float(graph, [x]), wanted, strict=True):
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_text_reads_back(zoo: ModuleType, name: str) -> None:
    graph = import_onnx(zoo.ZOO[name].model)
    assert parse(text(graph), blobs(graph)) == graph


def test_every_op_says_where_it_comes_from(zoo: ModuleType) -> None:
    case = zoo.ZOO["resnet20"]
    graph = import_onnx(case.model)
    assert all(op.loc.source.startswith(f"{case.file} ") for op in graph.ops)
    assert f"{case.file} node /layer1/layer1.0/Add" in {op.loc.source for op in graph.ops}
    assert f"{case.file} constant linear.weight" in {op.loc.source for op in graph.ops}


def test_a_language_model_reads_ids(zoo: ModuleType) -> None:
    graph = import_onnx(zoo.ZOO["stories260k"].model)
    (ids,) = graph.inputs
    assert ids.type == Tensor((1, 32), I32)
    assert [op.mnemonic for op in graph.users[ids.name]] == ["take"]
