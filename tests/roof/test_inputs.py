"""Arrays reach the inputs by their names, wherever they are given."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qir
from qir.cli import main
from qir.cli.files import read_inputs
from qir.inputs import in_order
from qir.ir.errors import DataError

A, B, C = np.zeros(1), np.ones(1), np.full(1, 2.0)
TWO = ("a", "b")


@pytest.mark.parametrize(
    ("batch", "names", "result"),
    [
        (A, ("a",), (A,)),
        ([A, B], TWO, (A, B)),
        ({"b": B, "a": A}, TWO, (A, B)),
        ({"b": B, "label": C, "a": A}, TWO, (A, B)),  # more than the inputs
        ({"other": A}, ("a",), (A,)),  # one array, one input
        ({"arr_1": B, "arr_0": A}, TWO, (A, B)),  # np.savez(file, A, B)
        ({"arr_10": B, "arr_9": A}, TWO, (A, B)),
        ({"arr_0": A, "b": B}, TWO, (A, B)),
        ({"enc_b": B, "a": A}, ("a", "enc/b"), (A, B)),  # as a zip's member is called
    ],
)
def test_in_order(batch: object, names: tuple[str, ...], result: tuple[object, ...]) -> None:
    arrays = in_order(batch, names, "batch 0")
    assert len(arrays) == len(result)
    assert all(x is y for x, y in zip(arrays, result, strict=True))


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        ({"a": A, "c": B}, "batch 0: arrays are called a, c, 2 are needed: a, b\nhint: FILE.npz:"),
        ({"a": A}, "batch 0: arrays are called a, 2 are needed: a, b"),
        ({"c": A, "d": B}, "batch 0: arrays are called c, d, 2 are needed: a, b"),
        ({"arr_0": A}, "batch 0: 1 array, 2 are needed: a, b"),
        ({}, "batch 0: 0 arrays, 2 are needed: a, b"),
        ({"a": A, "b": B, "arr_0": C}, "batch 0: arrays are called a, b, arr_0, 2 are needed"),
    ],
)
def test_other_names_are_refused(batch: object, error: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(error)}"):
        in_order(batch, TWO, "batch 0")


def test_inputs_of_several_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    np.savez(tmp_path / "b.npz", b=B)
    np.savez(tmp_path / "pair.npz", x=B, y=A)
    np.savez(tmp_path / "first.npz", A)
    np.savez(tmp_path / "second.npz", B)

    def values(*files: str) -> list[float]:
        arrays = read_inputs([str(tmp_path / file) for file in files], TWO)
        return [float(x[0]) for x in arrays]

    assert values("a.npy", "b.npz") == values("b.npz", "a.npy") == [0, 1]
    assert values("pair.npz:y,x") == values("first.npz", "second.npz") == [0, 1]
    with pytest.raises(DataError, match="arrays are called x, y, 2 are needed: a, b"):
        values("pair.npz")


def weighted(path: Path) -> Path:
    """left + 100 * right, batch size free: inputs of very different ranges."""
    kind = TensorProto.FLOAT
    nodes = [
        helper.make_node("Mul", ["right", "hundred"], ["r"]),
        helper.make_node("Add", ["left", "r"], ["sum"]),
    ]
    ports = {n: helper.make_tensor_value_info(n, kind, ["n", 4]) for n in ("left", "right", "sum")}
    graph = helper.make_graph(
        nodes,
        "weighted",
        [ports["left"], ports["right"]],
        [ports["sum"]],
        [numpy_helper.from_array(np.float32(100), "hundred")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("weighted")
    weighted(home / "m.onnx")
    rng = np.random.default_rng(0)
    left = rng.uniform(-100, 100, (16, 4)).astype(np.float32)
    right = rng.uniform(-1, 1, (16, 4)).astype(np.float32)
    np.savez(home / "named.npz", right=right, left=left, label=np.zeros(16))
    return home


def test_calibration_and_run_take_npz_by_name(folder: Path) -> None:
    """Were the inputs swapped, left would be clipped to [-1, 1] and right have steps of 0.8."""
    model, named, out = folder / "m.onnx", folder / "named.npz", folder / "m.qir"
    assert main(["compile", str(model), "--calibration", str(named), "-o", str(out)]) == 0
    assert main(["run", str(out), "--input", str(named), "-o", str(folder / "y.npy")]) == 0
    data = np.load(named)
    exact = data["left"] + 100 * data["right"]
    assert np.abs(np.load(folder / "y.npy") - exact).max() < 2.5  # 400 / 255 for a step

    by_dict = qir.compile(model, calibration={k: data[k] for k in data.files})
    x = {"right": data["right"][:1], "left": data["left"][:1]}
    np.testing.assert_array_equal(by_dict(x), by_dict(x["left"], x["right"]))
    np.testing.assert_array_equal(by_dict(x), np.load(folder / "y.npy")[:1])


def test_run_names_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, named, out = folder / "m.onnx", folder / "named.npz", folder / "n.qir"
    assert main(["compile", str(model), "--calibration", str(named), "-o", str(out)]) == 0
    other = folder / "other.npz"
    np.savez(other, x=np.load(named)["left"], y=np.load(named)["right"])
    capsys.readouterr()
    assert main(["run", str(out), "--input", str(other)]) == 1
    expected = f"error: --input {other}: arrays are called x, y, 2 are needed: left, right\nhint: "
    assert capsys.readouterr().err.startswith(expected)
