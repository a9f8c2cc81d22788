"""The zoo's resnet20 from its PyTorch weights equals ONNX Runtime on its ONNX file, and becomes the
same graph as that file."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from qir.frontends.onnx import import_onnx
from qir.frontends.torch import import_torch
from qir.ir.torch_executor import run_float
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
from tests.passes.same_graph import assert_same_graph

BATCH, IMAGES = 100, 200  # all 2,000 agree too, in 20 s


@pytest.fixture(scope="module")
def resnet20(zoo: ModuleType) -> Any:
    safetensors = pytest.importorskip("safetensors.torch")
    file = zoo.HERE / "torch_models.py"
    spec = importlib.util.spec_from_file_location("torch_models", file)
    assert spec is not None and spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    net = models.CifarResNet(3)
    net.load_state_dict(safetensors.load_file(zoo.MODELS / "resnet20_cifar10.safetensors"))
    return net


def test_resnet20_equals_onnx_runtime(zoo: ModuleType, resnet20: Any) -> None:
    runtime = pytest.importorskip("onnxruntime")
    case = zoo.ZOO["resnet20"]
    session = runtime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    images = case.inputs()[:IMAGES]
    graph = import_torch(resnet20, (torch.from_numpy(images[:BATCH]),))
    for k in range(0, len(images), BATCH):
        (found,) = run_float(graph, [images[k : k + BATCH]])
        each = [session.run(None, {name: x[None]})[0] for x in images[k : k + BATCH]]
        expected = np.concatenate(each)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert (found.argmax(1) == expected.argmax(1)).all()
    assert graph.inputs[0].type.shape == (BATCH, 3, 32, 32)
    assert resnet20.training  # it came in training mode, and is as it was


def test_resnet20_becomes_the_graph_of_its_onnx_file(zoo: ModuleType, resnet20: Any) -> None:
    """Bit for bit, batch norms and all: so calibration and all after it are the same too."""
    ours = import_torch(resnet20, (torch.zeros(1, 3, 32, 32),))
    theirs = import_onnx(zoo.ZOO["resnet20"].model)
    assert_same_graph(Manager().run(ours, CANONICALIZE), Manager().run(theirs, CANONICALIZE))
