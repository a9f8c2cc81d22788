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
    with pytest.raises(qir.QirError, match="arrays for middle; of left, right, bias they are"):
        qir.compile(Three(), calibration=data)
