"""Signal to noise of each integer value against the model that was given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qir
from qir.ir.graph import Builder, Graph
from qir.ir.ops import Constant, Linear, Relu
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, divisors
from qir.passes.pipelines import TO_INTEGER, quantize, transform
from qir.passes.quantize.rescue_groups import RescueGroups
from qir.passes.sensitivity.sqnr import decibels, matched, measure_sqnr

X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)


def net(last: str = "y") -> Graph:
    """Two layers between which channels differ by factors of 1000."""
    rng, b = np.random.default_rng(1), Builder("net", "canonical")
    uneven = 10 ** rng.uniform(-1.5, 1.5, 16)
    first = (rng.normal(size=(16, 8)) * uneven[:, None]).astype(np.float32)
    second = (rng.normal(size=(4, 16)) / uneven).astype(np.float32)
    h = b.add(Linear(b.input("x", Tensor((1, 8), F32)), b.add(Constant.of(first), "v"), None), "h")
    r = b.add(Relu(h), "r")
    return b.finish([b.add(Linear(r, b.add(Constant.of(second), "w"), None), last)])


def integers(graph: Graph, manager: Manager) -> Graph:
    kinder = manager.run(graph, transform(graph, (X,)))
    return manager.run(manager.run(kinder, quantize(calibrate(kinder, X))), TO_INTEGER)


def test_divided_channels_are_compared_in_the_units_of_the_model() -> None:
    manager = Manager()
    integer = integers(net(), manager)
    scales = divisors(manager.records)
    assert scales["r"].max() > 10 * scales["r"].min()
    ratios = {s.op.names[0]: s.decibels for s in measure_sqnr(net(), integer, X, divided=scales)}
    assert min(ratios.values()) > 30
    blind = {s.op.names[0]: s.decibels for s in measure_sqnr(net(), integer, X)}
    assert blind["r"] < 10 and blind["y"] == ratios["y"]


def test_outputs_are_matched_by_place_whatever_a_pass_calls_them() -> None:
    integer = integers(net("renamed"), Manager())
    pairs = matched(net(), integer)
    assert pairs["y"].names == ("renamed",)
    assert {s.op.names[0] for s in measure_sqnr(net(), integer, X)} == {"r", "renamed"}


@pytest.mark.parametrize(
    ("signal", "noise", "ratio"), [(1, 0.01, 20), (1, 0, np.inf), (0, 1, -np.inf)]
)
def test_decibels(signal: float, noise: float, ratio: float) -> None:
    assert decibels(signal, noise) == pytest.approx(ratio)


def seen_by_user(program: qir.Net, model: nn.Module, x: Array) -> float:
    expected = model(torch.from_numpy(x)).detach().numpy()
    y = np.concatenate([program(row[None]) for row in x])
    return decibels(float((expected**2).sum()), float(((expected - y) ** 2).sum()))


def test_the_report_hides_nothing_of_what_a_given_pass_changed() -> None:
    torch.manual_seed(0)
    model = nn.Linear(64, 16, bias=False).eval()
    with torch.no_grad():
        model.weight[:, 3] *= 300
    x = torch.randn(64, 64).numpy()
    program = qir.compile(model, calibration=x, passes=[RescueGroups(weight_bits=4, group=32)])
    (reported,) = [r.sqnr_db for r in program.report().rows if r.sqnr_db is not None]
    assert reported == pytest.approx(seen_by_user(program, model, x[-16:]), abs=0.1)
