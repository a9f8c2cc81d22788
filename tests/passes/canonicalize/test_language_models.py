"""The zoo's language models reach the canonical form of transformers, from torch and from ONNX."""

from __future__ import annotations

import importlib.util
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from qir.frontends.onnx import import_onnx
from qir.frontends.torch import import_torch
from qir.ir.graph import Graph
from qir.ir.ops import Attention, Linear, Rope, Take
from qir.ir.torch_executor import run_float
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
from tests.frontends.onnx.models import one_thread

LAYERS = {"stories260k": 5, "shakespeare12": 12}


@pytest.fixture(params=LAYERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(zoo: ModuleType, name: str) -> Any:
    safetensors = pytest.importorskip("safetensors.torch")
    home = {"stories260k": "torch_models", "shakespeare12": "shakespeare12"}[name]
    spec = importlib.util.spec_from_file_location(home, zoo.HERE / f"{home}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name == "stories260k":
        return module.load_llama(zoo.MODELS / "stories260k_llama.safetensors")
    net = module.Shakespeare12()
    net.load_state_dict(safetensors.load_file(zoo.MODELS / "shakespeare12.safetensors"))
    return net.eval()


def assert_canonical(graph: Graph, layers: int) -> None:
    """Nothing but layers: no op moves elements, and none is left of what was written out."""
    counts = Counter(op.mnemonic for op in graph.ops)
    del counts["constant"]
    assert counts == {
        "take": 1, "rms_norm": 2 * layers + 1, "linear": 7 * layers + 1, "rope": 2 * layers,
        "attention": layers, "silu": layers, "mul": layers, "add": 2 * layers,
    }  # fmt: skip
    for op in graph.ops:
        if isinstance(op, Attention):
            assert op.causal and op.window == 0 and op.bias is op.visible is None
            assert (op.heads, op.kv_heads) in ((8, 4), (4, 2))
        if isinstance(op, Rope):
            assert op.interleaved == (layers == LAYERS["stories260k"])


def test_from_torch(zoo: ModuleType, name: str, network: Any) -> None:
    tokens = zoo.ZOO[name].inputs()[:1]
    graph = import_torch(network, (torch.from_numpy(tokens),))
    after = Manager().run(graph, CANONICALIZE)
    assert_canonical(after, LAYERS[name])
    with torch.no_grad():
        expected = network(torch.from_numpy(tokens)).numpy()
    assert np.abs(run_float(after, [tokens])[0] - expected).max() < 1e-4


def test_from_onnx(zoo: ModuleType, name: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    case = zoo.ZOO[name]
    tokens = case.inputs()[:1]
    after = Manager().run(import_onnx(case.model), CANONICALIZE)
    assert_canonical(after, LAYERS[name])
    session = runtime.InferenceSession(str(case.model), one_thread())
    (expected,) = session.run(None, {session.get_inputs()[0].name: tokens})
    assert np.abs(run_float(after, [tokens])[0] - expected).max() < 1e-4


def test_a_tied_head_is_the_table_of_the_embedding(zoo: ModuleType) -> None:
    graph = import_onnx(zoo.ZOO["stories260k"].model)
    after = Manager().run(graph, CANONICALIZE)
    take = next(op for op in after.ops if isinstance(op, Take))
    head = [op for op in after.ops if isinstance(op, Linear)][-1]
    assert take.table == head.w
