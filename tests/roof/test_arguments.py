"""Arguments of compile that are none: an error of ours, before any work."""

from __future__ import annotations

import copy
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qir
from qir.cli import main
from qir.cli.syntax import FAILED
from qir.inputs import in_order
from qir.loading import look
from qir.quantize import widths_of
from tests.roof.conftest import Made

MODEL = torch.nn.Sequential(torch.nn.Linear(3, 2)).eval()
DATA = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"target": None}, qir.LowerError, "target: None given, a Target or one of cpu, "),
        ({"target": 3}, qir.LowerError, "target: 3 given, a Target or one of cpu, "),
        ({"target": ""}, qir.LowerError, "target '': unknown, one of cpu, "),
        ({"target": "cpu\n"}, qir.LowerError, r"target 'cpu\\n': unknown, one of cpu, "),
        ({"bits": True}, qir.PassError, "bits: True given, as in 8, "),
        ({"bits": {1: "w4a8"}}, qir.PassError, "bits: 1: 'w4a8' given, a layer's name and a text"),
        ({"bits": {"linear": 4}}, qir.PassError, "bits: 'linear': 4 given, a layer's name and a"),
        ({"bits": {"linear": None}}, qir.PassError, "bits: 'linear': None given, a layer's name"),
        ({"rounding": 3}, qir.PassError, "rounding: 3 given, one of adaround, "),
        ({"rounding": True}, qir.PassError, "rounding: True given, one of adaround, "),
        ({"rounding": b"gptq"}, qir.PassError, "rounding: b'gptq' given, one of adaround, "),
        ({"batch": 0}, qir.DataError, "batch: 0 given, an integer from 1 to 1048576 is needed"),
        ({"batch": -1}, qir.DataError, "batch: -1 given, an integer from 1 "),
        ({"batch": True}, qir.DataError, "batch: True given, an integer from 1 "),
        ({"batch": 2.0}, qir.DataError, "batch: 2.0 given, an integer from 1 "),
        ({"batch": "2"}, qir.DataError, "batch: '2' given, an integer from 1 "),
        ({"batch": 10**12}, qir.DataError, "batch: 1000000000000 given, an integer from 1 "),
        ({"shapes": 3}, qir.DataError, "shapes: 3 given, a mapping from inputs to shapes"),
        ({"shapes": {"x": 3}}, qir.DataError, "shapes: 'x': 3 given, an input's name and "),
        ({"shapes": {"x": (0, 3)}}, qir.DataError, r"shapes: 'x': \(0, 3\) given, an input's"),
        ({"shapes": {1: (1, 3)}}, qir.DataError, r"shapes: 1: \(1, 3\) given, an input's name"),
        ({"shapes": {"x": (1, 3)}}, qir.DataError, "shapes: given with a torch module, an ONNX"),
        ({"name": 3}, qir.DataError, "name: 3 given, a text is needed"),
        ({"name": b"a"}, qir.DataError, "name: b'a' given, a text is needed"),
        ({"executor": 3}, qir.DataError, "executor: 3 given, a concurrent.futures.Executor is"),
        ({"passes": None}, qir.PassError, "passes: None given, a sequence of passes is needed"),
        ({"passes": ["x"]}, qir.PassError, r"passes: \['x'\] given, a sequence of passes is"),
        ({"progress": 3}, qir.DataError, "progress: 3 given, a function is needed"),
        ({"state": 3}, qir.DataError, "state: 3 given, the path of a folder is needed"),
        ({"state": "a\0b"}, qir.DataError, r"state a\\x00b: cannot be made \(embedded null byte\)"),
        ({"state": "/dev/null"}, qir.DataError, "state /dev/null: not a folder, a folder or a "),
        ({"state": "/dev/null/a"}, qir.DataError, "state /dev/null/a: cannot be made .Not a dir"),
        ({"calibration": {1: DATA}}, qir.DataError, "calibration batch 0: array called 1, the na"),
        ({"inputs": 3}, qir.DataError, "inputs: int given, a tensor or a list of tensors is"),
        (
            {"calibration": torch.tensor(DATA).to_sparse()},
            qir.DataError,
            "calibration batch 0: its samples cannot be selected .Could not run 'aten::index.Tens",
        ),
        (
            {"calibration": torch.tensor(DATA).bfloat16()},
            qir.DataError,
            "calibration batch 0: a Tensor for input %input that is no array .Got unsupported Sca",
        ),
        ({"calibration": DATA[:0]}, qir.DataError, r"calibration batch 0: shape \[0, 3\], one sam"),
    ],
)
def test_an_argument_that_is_none(
    arguments: dict[str, Any], error: type[qir.QirError], text: str
) -> None:
    with pytest.raises(error, match=f"^{text}"):
        qir.compile(MODEL, **{"calibration": DATA, **arguments})


def test_bits_of_a_layer_as_a_pair() -> None:
    assert {n: str(b) for n, b in widths_of({"a": (4, 8), "b": "w2a8"})[1].items()} == {
        "a": "w4a8",
        "b": "w2a8",
    }


@pytest.mark.parametrize("limit", ["x", True, (1,)])
def test_a_limit_that_is_no_number(limit: Any) -> None:
    text = f"mixed precision: size is {limit!r}, a number is needed"
    with pytest.raises(qir.PassError, match=f"^{re.escape(text)}$"):
        qir.MixedPrecision(size=limit)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"choices": 3}, "choices are 3, a sequence of bits is needed"),
        ({"choices": "w4a8"}, "choices are 'w4a8', a sequence of bits is needed"),
        ({"choices": ("w4a8", 8)}, "bits 8 given, Bits or a text like w4a8 is needed"),
        ({"ends": 3}, "bits 3 given, Bits or a text like w4a8 is needed"),
    ],
)
def test_choices_that_are_no_bits(option: dict[str, Any], text: str) -> None:
    with pytest.raises(qir.PassError, match=f"^mixed precision: {text}$"):
        qir.MixedPrecision(size=0.5, **option)


def test_torch_writes_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(qir.FrontendError, match=r"^torch.export Sequential: RuntimeError a and b "):
        qir.compile(MODEL, calibration=np.zeros((4, 7), np.float32))
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_no_text() -> None:
    with pytest.raises(
        qir.DataError, match=r"^net: array called 1, the name of an input is needed"
    ):
        in_order({1: DATA}, ["x"], "net")


def test_a_net_is_saved_not_pickled(made: Made) -> None:
    net = qir.load(made.artifact)
    for copied in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(
            qir.ArtifactError, match=r"^net small: cannot be pickled or copied, a s"
        ):
            copied(net)
        with pytest.raises(qir.runtime.ArtifactError, match=r"^artifact small: cannot be pickled"):
            copied(net.session)


def test_an_empty_path() -> None:
    for load in (qir.load, look):
        with pytest.raises(qir.ArtifactError, match=r"^path: an empty text was given, a path is"):
            load("")


def test_reals_beyond_float32_are_clamped_in_silence(made: Made) -> None:
    net = qir.load(made.artifact)
    huge = np.full((1, 3, 8, 8), 1e300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(net(huge), net(np.full((1, 3, 8, 8), np.inf, np.float32)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("compile a.qir", "a.qir: an artifact, a model is needed"),
        ("compile folder", "folder: no file, a model is needed"),
        ("compile pipe.npy", "pipe.npy: no file, a model is needed"),
        ("compile m.onnx --calibration pipe.npy", "pipe.npy: no regular file, one in .npy or"),
        ("compile m.onnx --calibration none.npy", "calibration data: no samples, at least one "),
        (
            "compile m.onnx --calibration huge.npy",
            "calibration batch 0: 192 NaN or infinite of 192",
        ),
        ("run a.qir --input pipe.npy", "pipe.npy: no regular file, one in .npy or .npz is needed"),
        ("run a.qir --input pickle.npy", "pickle.npy: damaged or no arrays of numbers (it holds"),
    ],
)
def test_a_file_that_is_none(
    arguments: str,
    text: str,
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.qir").symlink_to(made.artifact)
    Path("m.onnx").symlink_to(made.model)
    Path("folder").mkdir()
    os.mkfifo("pipe.npy")
    np.save("none.npy", np.zeros((0, 3, 8, 8), np.float32))
    np.save("huge.npy", np.full((1, 3, 8, 8), 1e300))
    np.save("pickle.npy", np.array([{}], object))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(arguments.split(" ")) == FAILED
    assert capsys.readouterr().err.startswith(f"error: {text}")
