"""Corrections of biases and channels: as far as they are certain, where held-back outputs gain."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Clip, Concat, Constant, Linear, Mul, Relu, Reshape, Softmax, Transpose
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Miss, Record
from qir.passes.infra.rebatch import rebatch
from qir.passes.quantize.correct_bias import CorrectBias, CorrectChannels
from qir.passes.quantize.correction_walk import certain, channels_of, ends_of
from qir.passes.quantize.quantize_graph import QuantizeGraph


def layers(sizes: tuple[int, ...], seed: int = 0) -> Graph:
    """Linear layers with a relu between them, called l0, l1, ..."""
    rng, b = np.random.default_rng(seed), Builder("layers", "transformed")
    x: Value = b.input("x", Tensor((1, sizes[0]), F32))
    for i, (n, m) in enumerate(pairwise(sizes)):
        w = (rng.normal(size=(m, n)) / n**0.5).astype(np.float32)
        x = b.add(Linear(x, b.add(Constant.of(w)), b.add(Constant.of(w[:, 0] * 0))), f"l{i}")
        x = b.add(Relu(x), f"r{i}") if i < len(sizes) - 2 else x
    return b.finish([x])


def run(graph: Graph, x: Array) -> Array:
    larger = rebatch(graph, len(x))
    assert not isinstance(larger, Miss)
    return np.asarray(FloatProgram(larger)(x)[0].detach())


def error(graph: Graph, reference: Graph, x: Array) -> float:
    return float(((run(graph, x) - run(reference, x)) ** 2).sum())


def heavy(count: int, seed: int, share: float = 0.02) -> Array:
    """Positive inputs of which a few runs are 30 times as large."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(count, 16))) * np.where(rng.random((count, 1)) < share, 30, 1)
    return x.astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_few_runs_of_heavy_tails_do_no_harm_on_fresh_ones(seed: int) -> None:
    """A mean over few runs is that of the outlier among them, and all others are shifted by it."""
    graph, fresh = layers((16, 32, 32, 8), seed), heavy(400, 100 + seed)
    data = np.concatenate([heavy(11, seed, 0.0), heavy(1, seed, 1.0)])
    plain = Manager().run(graph, [QuantizeGraph(calibrate(graph, data), weight_bits=5)])
    corrected = Manager().run(plain, [CorrectBias(graph, (data,))])
    assert error(corrected, graph, fresh) <= 1.02 * error(plain, graph, fresh)


def test_a_shift_that_every_run_has_is_taken_away() -> None:
    graph = layers((16, 32, 8))
    data, fresh = heavy(48, 1, 0.0), heavy(200, 2, 0.0)
    plain = Manager().run(graph, [QuantizeGraph(calibrate(graph, data), weight_bits=3)])
    record = Record("correct-bias", CorrectBias.claim)
    corrected = CorrectBias(graph, (data,)).run(plain, record)
    assert record.rewrites == 2
    assert error(corrected, graph, fresh) < 0.6 * error(plain, graph, fresh)
    again = CorrectBias(graph, (data,)).run(plain, record)
    assert again == corrected  # no draw of chance


def test_only_what_is_certain_is_shifted() -> None:
    errors = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 4.0]])
    assert certain(errors).tolist() == pytest.approx([1.0, 0.0, 0.0])
    rows = np.tile([[0.9], [1.1]], (8, 1))  # mean 1, variance of the mean 0.01 / 15
    assert certain(rows)[0] == pytest.approx(1 - 4 * 0.01 / 15)
    assert certain(errors[:1]).tolist() == [0, 0, 0]


def test_a_segment_that_makes_held_back_outputs_worse_is_left_as_it_was() -> None:
    """The held-back runs have the opposite sign, so every shift of the others is wrong for them."""
    graph = layers((16, 8))
    data = heavy(30, 3, 0.0)
    data[20:] *= -1
    plain = Manager().run(graph, [QuantizeGraph(calibrate(graph, data), weight_bits=3)])
    record = Record("correct-bias", CorrectBias.claim)
    assert CorrectBias(graph, (data,)).run(plain, record) == plain
    assert record.misses == [Miss("held-back outputs are worse with it", "l0")]


def test_what_corrections_need() -> None:
    graph = layers((16, 8))
    plain = Manager().run(graph, [QuantizeGraph(calibrate(graph, heavy(4, 1)))])
    for step, why in (
        (CorrectBias(), "no float graph and sample are given"),
        (CorrectBias(graph, (heavy(2, 1),)), "2 runs, 3 are needed to hold one back"),
    ):
        record = Record("correct-bias", CorrectBias.claim)
        assert step.run(plain, record) is plain
        assert [m.why for m in record.misses] == [why]


def test_corrected_channels_have_the_float_means_and_deviations() -> None:
    graph, data = layers((16, 8)), heavy(64, 5, 0.0)
    plain = Manager().run(graph, [QuantizeGraph(calibrate(graph, data), weight_bits=3)])
    corrected = Manager().run(plain, [CorrectChannels(graph, (data,))])
    expected, before, after = (
        channels_of(g, (data[:48],))["l0"] for g in (graph, plain, corrected)
    )
    np.testing.assert_allclose(after.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(after.std, expected.std, rtol=1e-5)
    assert np.abs(before.std / expected.std - 1).max() > 0.02
    stored = [
        [op.value.array for op in g.ops if isinstance(op, Constant) and op.value.array.ndim == 2]
        for g in (plain, corrected)
    ]
    np.testing.assert_array_equal(stored[0], stored[1])  # scales move, integers stay


def test_values_joined_in_one_output_are_judged_apart() -> None:
    b = Builder("joined", "transformed")
    x = b.input("x", Tensor((1, 4, 6), F32))
    boxes = b.add(Mul(x, b.add(Constant.of(np.float32(320)))), "boxes")
    scores = b.add(Clip(x, 0.0, 1.0), "scores")
    y = b.add(Reshape(b.add(Transpose(b.add(Concat((boxes, scores), 2)), (0, 2, 1))), (1, 48)))
    graph = b.finish([y])
    assert ends_of(graph) == ["boxes", "scores"]
    data = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)
    simulated = Manager().run(graph, [QuantizeGraph(calibrate(graph, data))])
    assert len(ends_of(simulated)) == 2


def test_a_value_joined_twice_is_judged_at_both_places() -> None:
    b = Builder("twice", "transformed")
    scores = b.add(Softmax(b.input("x", Tensor((1, 4, 6), F32))), "scores")
    graph = b.finish([b.add(Concat((scores, scores), 2))])
    data = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)
    simulated = Manager().run(graph, [QuantizeGraph(calibrate(graph, data))])
    assert ends_of(graph) == ["scores", "scores"]
    assert len(set(ends_of(simulated))) == 2  # each place quantizes it
    record = Record("correct-bias", CorrectBias.claim)
    assert CorrectBias(graph, (data,)).run(simulated, record) == simulated
    assert record.misses == []
