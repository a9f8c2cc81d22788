"""compile on models of several inputs, on named batches, and for a batch size of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qir

RNG = np.random.default_rng(0)


class Three(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return left - right + bias


BATCHES = [tuple(RNG.normal(size=(4, 8)).astype(np.float32) for _ in range(3)) for _ in range(4)]


@pytest.mark.parametrize("named", [False, True])
def test_three_inputs(named: bool) -> None:
    order = ("bias", "right", "left")
    data = (
        [{n: b[("left", "right", "bias").index(n)] for n in order} for b in BATCHES]
        if named
        else BATCHES
    )
    net = qir.compile(Three(), calibration=data)
    for left, right, bias in BATCHES:
        error = np.abs(net(left[:1], right[:1], bias[:1]) - (left - right + bias)[:1]).max()
        assert error < 0.1
    assert all(row.sqnr_db is None or row.sqnr_db > 30 for row in net.report().rows)


@pytest.mark.parametrize("brings", [2, 4, 7])
def test_a_torch_module_is_compiled_for_the_batch_asked_for(brings: int) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    data = RNG.normal(size=(28, 8)).astype(np.float32)
    net = qir.compile(model, calibration=np.split(data, 28 // brings), batch=4)
    assert tuple(net.report().inputs[0].shape) == (4, 8)
    again = qir.compile(model, calibration=data, inputs=[data[:1]], batch=4)
    assert np.array_equal(net(data[:4]), again(data[:4]))


def test_inputs_without_a_common_batch_are_named() -> None:
    data = [(np.zeros((1, 8), np.float32), np.zeros((3, 8), np.float32), np.zeros((1, 8)))]
    with pytest.raises(qir.QirError, match=r"batch 2: inputs start with sizes \[1, 3\], one batch"):
        qir.compile(Three(), calibration=data, batch=2)


def test_an_unknown_name_is_named() -> None:
    data = [{"left": BATCHES[0][0], "middle": BATCHES[0][1], "bias": BATCHES[0][2]}]
    expected = "^calibration batch 0: arrays are called left, middle, bias, 3 are needed: left, ri"
    with pytest.raises(qir.DataError, match=expected):
        qir.compile(Three(), calibration=data)


X, FLAT = np.zeros((4, 8), np.float32), nn.Linear(8, 4)


@pytest.mark.parametrize(
    ("calibration", "error"),
    [
        ("data.npy", "calibration: str given, an array or batches of arrays are needed\nhint: num"),
        (3, "calibration: int given, an array or batches of arrays are needed"),
        ([], "calibration: no batch, at least one is needed"),
        ([3.0], "calibration batch 0: float given, an array is needed"),
        (X[:0], r"calibration batch 0: shape \[0, 8\], one sample is needed"),
        ([(X, X)], r"calibration batch 0: 2 arrays, forward of Linear takes 1: input\nhint: of a"),
        ([{"a": X, "b": X}], "calibration batch 0: arrays are called a, b, 1 are needed: input"),
        ([X, {"a": X, "b": X}], "calibration batch 1: arrays are called a, b, 1 are needed: input"),
    ],
)
def test_what_is_no_calibration_data(calibration: object, error: str) -> None:
    with pytest.raises(qir.DataError, match=f"^{error}"):
        qir.compile(FLAT, calibration=calibration)


def test_one_named_array_is_the_one_input() -> None:
    data = RNG.normal(size=(16, 8)).astype(np.float32)
    net = qir.compile(FLAT, calibration=[{"pixels": data}])
    assert np.array_equal(net(data[:1]), qir.compile(FLAT, calibration=data)(data[:1]))


class Joined(nn.Module):
    """Values of 0 to 300 and of 0 to 1 joined before a layer, which reads one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([torch.sigmoid(x) * 300, torch.sigmoid(x)], -1))


def test_the_report_warns_of_values_that_share_a_wider_scale() -> None:
    data = RNG.normal(size=(16, 8)).astype(np.float32)
    report = qir.compile(Joined().eval(), calibration=data).report()
    (warning,) = report.warnings
    assert "shares a scale with" in warning and warning.startswith("concat %")
    assert f"warning: {warning}" in str(report)
    assert type(report).from_json(report.to_json()) == report
