"""A small model in ONNX, data for it, and the artifact that the command line makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qir.cli import main


@dataclass(frozen=True)
class Made:
    """Files of one compiled model; its input is (1, 3, 8, 8), its output (1, 5)."""

    model: Path
    data: Path
    artifact: Path


def model() -> onnx.ModelProto:
    """conv 3x3 -> relu -> global average pool -> fully connected, batch size free."""
    rng = np.random.default_rng(7)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
        "fc": rng.standard_normal((4, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "fc"], ["scores"], "last"),
    ]
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", kind, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", kind, ["n", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    onnx.save(model(), folder / "small.onnx")
    rng = np.random.default_rng(1)
    np.save(folder / "data.npy", rng.standard_normal((16, 3, 8, 8)).astype(np.float32))
    one = Made(folder / "small.onnx", folder / "data.npy", folder / "small.qir")
    arguments = ["compile", str(one.model), "--calibration", str(one.data), "-o", str(one.artifact)]
    assert main(arguments) == 0
    return one


@pytest.fixture(autouse=True)
def wide_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as a pipe has them, whatever terminal or runner starts the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)
