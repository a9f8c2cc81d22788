"""Scales of channels: kept where held-back samples allow, recorded, never on an output."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Constant, Linear, Relu
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Miss, Record, divisors
from qir.passes.infra.rebatch import rebatch
from qir.passes.pipelines import quantize, transform
from qir.passes.transform.channel_ranges import Reach, channel_reach, held_back
from qir.passes.transform.equalize_channels import EqualizeChannels, choose_scales, outside

WIDTH = 256


def mlp(spread: float = 0.0, shown: bool = False) -> Graph:
    """Two layers of random weights; channels between them differ by factors up to 10**spread,
    against the columns that read them. `shown`: the first one's result is an output too.
    """
    rng, b = np.random.default_rng(0), Builder("mlp", "canonical")
    uneven = 10 ** rng.uniform(-spread, spread, WIDTH)

    def w(rows: int, columns: int, of: Array | None = None) -> Value:
        scale = 1 if of is None else of
        values = rng.normal(size=(rows, columns)) / columns**0.5
        return b.add(Constant.of((values * scale).astype(np.float32)), "w")

    x = b.input("x", Tensor((1, 64), F32))
    h = b.add(Linear(x, w(WIDTH, 64, uneven[:, None]), None), "h")
    r = b.add(Relu(h), "r")
    y = b.add(Linear(r, w(10, WIDTH, 1 / uneven), None), "y")
    return b.finish([h, y] if shown else [y])


def drawn(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)


def outputs(graph: Graph, x: Array) -> Array:
    whole = rebatch(graph, len(x))
    assert not isinstance(whole, Miss)
    return np.asarray(FloatProgram(whole)(x)[-1].detach())


def decibels(graph: Graph, sample: Array, is_equalized: bool) -> float:
    """Of the last output on samples that nothing was made from."""
    fresh, manager = drawn(256, 9), Manager()
    expected = outputs(graph, fresh)
    if is_equalized:
        graph = manager.run(graph, transform(graph, (sample,)))
    simulated = manager.run(graph, quantize(calibrate(graph, sample)))
    noise = outputs(simulated, fresh) - expected
    return float(10 * np.log10((expected**2).sum() / (noise**2).sum()))


@pytest.mark.parametrize("count", [2, 8, 64])
def test_few_samples_of_even_channels_are_not_trusted(count: int) -> None:
    with_scales, without = (decibels(mlp(), drawn(count), each) for each in (True, False))
    assert with_scales > without - 0.5


def test_channels_that_differ_are_equalized_all_the_same() -> None:
    with_scales, without = (decibels(mlp(1.5), drawn(64), each) for each in (True, False))
    assert with_scales > without + 6


def test_scales_are_recorded_as_what_values_were_divided_by() -> None:
    graph, sample = mlp(1.5), drawn(64)
    manager = Manager()
    equalized = manager.run(graph, transform(graph, (sample,)))
    scales = divisors(manager.records)
    assert set(scales) == {"h", "r"}
    before, after = {}, {}
    FloatProgram(graph)(sample[:1], watch=lambda v, x: before.update({v.name: x.numpy()}))
    FloatProgram(equalized)(sample[:1], watch=lambda v, x: after.update({v.name: x.numpy()}))
    for name in ("h", "r"):
        np.testing.assert_allclose(after[name] * scales[name], before[name], rtol=1e-4, atol=1e-6)


def test_divisors_of_several_passes_multiply() -> None:
    records = [Record("a", EqualizeChannels.claim), Record("b", EqualizeChannels.claim)]
    records[0].divided["x"], records[1].divided["x"] = np.array([2.0, 3.0]), np.array([5.0, 0.5])
    assert divisors(records)["x"].tolist() == [10.0, 1.5]


def test_a_value_that_is_an_output_keeps_its_reals() -> None:
    graph = mlp(1.5, shown=True)
    record = Record("equalize-channels", EqualizeChannels.claim)
    reach = channel_reach(graph, (drawn(16),))
    assert EqualizeChannels(halves=reach).run(graph, record) is graph
    assert Miss("an output of the graph", "h") in record.misses


def test_outside_counts_what_the_other_half_reaches_beyond() -> None:
    w = np.array([[[[2.0]], [[3.0]]]])  # two inputs, one output, one tap
    ones = np.ones(2)
    beyond = outside(ones, np.array([4.0, 1.0]), np.array([6.0, 4.5]), 8, [w])
    assert beyond == pytest.approx(12 / 8 * (2.0**2 * 4 + 0.5**2 * 9))
    assert outside(ones, np.array([4.0, 1.0]), np.array([4.0, 4.0]), 8, [w]) == 0


def test_halves_that_agree_are_equalized_as_one_reach() -> None:
    w = np.ones((1, 2, 1, 1))
    even = Reach(np.array([[100.0, 1.0], [100.0, 1.0]]), 4)
    scales = choose_scales(even, [w])
    assert scales[0] > 5 * scales[1]
    apart = Reach(np.array([[100.0, 1.0], [100.0, 400.0]]), 4)
    assert choose_scales(apart, [w])[0] < 2


def test_a_quarter_of_many_runs_is_held_back() -> None:
    graph = mlp()
    for count, judges in ((8, 8), (31, 16), (32, 8), (100, 16)):
        fit, judging = held_back(graph, (drawn(count),), 16)
        assert len(judging[0]) == judges
        assert len(fit[0]) == (count if count < 32 else count - judges)
