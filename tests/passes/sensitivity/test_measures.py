"""Measures of each layer: what they find in nets whose sensitive layers are known, and as data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from qir.ir.errors import DataError, ParseError, PassError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Constant, Conv, Linear, ReduceMean, Relu
from qir.ir.ops.quantize import dequantized, quantized
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes.bits.assign import assign
from qir.passes.bits.choice import Bits
from qir.passes.bits.costs import LayerWork, measured_layer
from qir.passes.calibrate.ranges import Ranges, calibrate
from qir.passes.infra.manager import Manager
from qir.passes.infra.tasks import Store
from qir.passes.quantize.quantize_graph import QuantizeGraph
from qir.passes.sensitivity import table as names
from qir.passes.sensitivity.importance import input_changes, relevances, weight_tails
from qir.passes.sensitivity.measure import Effort, measure_sensitivities
from qir.passes.sensitivity.output_loss import loss_of
from qir.passes.sensitivity.probe import float_weights
from qir.passes.sensitivity.quantized_layer import layer_errors, stored_layers
from qir.passes.sensitivity.subject import Runner, Subject
from qir.passes.sensitivity.table import Sensitivities

SAMPLES = 12
W4, W4G, W8 = Bits(4, 4), Bits(4, 8, 2), Bits(8, 8)
CANDIDATES = (W4, W4G, W8)
EFFORT = Effort(SAMPLES, 0.5, 6)


def net() -> Graph:
    """Two convolutions around a sum, then a linear layer; one value is read twice."""
    rng, b = np.random.default_rng(0), Builder("net", "transformed")

    def weights(*shape: int) -> Value:
        return b.add(Constant.of((rng.normal(size=shape) / 3).astype(np.float32)))

    def conv(x: Value, name: str) -> Value:
        return b.add(Conv(x, weights(4, 3, 3, 4), weights(4), (1, 1), (1,) * 4, (1, 1), 1), name)

    x = b.input("x", Tensor((1, 5, 5, 4), F32))
    first = b.add(Relu(conv(x, "first")), "relu")
    total = b.add(Relu(b.add(Add(conv(first, "second"), first))))
    pooled = b.add(ReduceMean(total, (1, 2), False))
    return b.finish([b.add(Linear(pooled, weights(6, 4), None), "last")])


GRAPH = net()
SAMPLE = (np.random.default_rng(1).normal(size=(SAMPLES, 5, 5, 4)).astype(np.float32),)
TARGETS = np.concatenate([run_float(GRAPH, (one[None],))[0] for one in SAMPLE[0]])
SUBJECT = Subject(GRAPH, SAMPLE, loss_of(GRAPH, SAMPLE))


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as one:
        yield one


@pytest.fixture(scope="module")
def ranges() -> Ranges:
    return calibrate(GRAPH, [SAMPLE[0]])


@pytest.fixture(scope="module")
def found(ranges: Ranges, pool: Executor) -> Sensitivities:
    return measure_sensitivities(
        GRAPH, ranges, SAMPLE, CANDIDATES, effort=EFFORT, executor=pool
    )  # fmt: skip


def test_every_layer_has_every_measure(found: Sensitivities) -> None:
    assert list(found.values) == ["first", "second", "last"]
    assert set(found.columns(W4)) == set(names.MEANINGS)
    for column in found.columns(W4).values():
        assert all(np.isfinite(x) for x in column.values())
    assert sum(v[names.RELEVANCE] for v in found.values.values()) == pytest.approx(1.0)
    assert all(found.errors[names.TRACE][name] > 0 for name in found.values)


@pytest.mark.parametrize(
    "measure",
    [names.HESSIAN, names.EIGENVALUE_LOSS, names.WEIGHT_NOISE, names.OUTPUT_NOISE, names.ALONE],
)
def test_fewer_bits_lose_more(found: Sensitivities, measure: str) -> None:
    for losses in found.losses(measure).values():
        assert 0 <= losses[W8] < losses[W4] / 20


def test_groups_lose_less_of_the_weights(found: Sensitivities) -> None:
    for losses in found.losses(names.WEIGHT_NOISE).values():
        assert losses[W4G] < losses[W4]


def test_losses_are_what_assignment_takes(found: Sensitivities) -> None:
    works = {n: LayerWork(100, 100, 10) for n in found.values}
    hessian = {n: {b: row[b] for b in (W4, W8)} for n, row in found.losses().items()}
    layers = [measured_layer(n, row, works[n]) for n, row in hessian.items()]
    best = assign(layers, {"bops": 100 * (64 + 2 * 16)})
    widest = [n for n, bits in best.bits.items() if bits == W8]
    assert widest == [max(hessian, key=lambda n: hessian[n][W4] - hessian[n][W8])]


def test_layers_are_stored_as_the_quantized_graph_has_them(ranges: Ranges) -> None:
    stored = stored_layers(GRAPH, ranges, (W4,))
    simulated = Manager().run(GRAPH, [QuantizeGraph(ranges, 4, 4)])
    layers = {op.names[0]: op for op in simulated.ops if isinstance(op, (Conv, Linear))}
    for name, op in layers.items():
        x, w = op.operands[:2]
        source = simulated.producers[w.name].operands[0]
        constant = simulated.producers[source.name]
        assert isinstance(constant, Constant)
        reals = constant.value.array * source.type.quant.spread(w.type.shape)[0]
        np.testing.assert_allclose(stored[name][W4].weights, reals, rtol=1e-6)
        if name != "first":  # which keeps 8 bits, unless it is asked by name
            given = simulated.producers[simulated.producers[x.name].operands[0].name]
            assert given.to == stored[name][W4].input  # type: ignore[attr-defined]


def test_errors_of_one_layer_are_those_of_its_formula(ranges: Ranges, pool: Executor) -> None:
    stored = stored_layers(GRAPH, ranges, (W4,))
    actual = layer_errors(SUBJECT, stored, Runner(pool))["last"][W4]
    last, kept = GRAPH.ops[-1], stored["last"][W4]
    assert isinstance(last, Linear) and kept.input is not None
    until = replace(GRAPH, outputs=(last.x,), output_names=("x",))
    x = np.concatenate([run_float(until, (one[None],))[0] for one in SAMPLE[0]])
    w = float_weights(GRAPH, last)
    read = dequantized(quantized(x, kept.input, Rounding.HALF_EVEN), kept.input)
    y, other = x @ w.T, read @ kept.weights.T
    p, q = softmax(y.astype(np.float64), 1), softmax(other.astype(np.float64), 1)
    assert actual.weights == pytest.approx(((kept.weights - w) ** 2).sum(), rel=1e-4)
    assert actual.inputs == pytest.approx(((read - x) ** 2).sum() / SAMPLES, rel=1e-4)
    assert actual.signal == pytest.approx((y**2).sum() / SAMPLES, rel=1e-4)
    assert actual.noise == pytest.approx(((other - y) ** 2).sum() / SAMPLES, rel=1e-3)
    assert actual.loss == pytest.approx((p * np.log(p / q)).sum() / SAMPLES, rel=1e-3)


def test_half_of_the_hessian_loss_is_the_loss_of_a_small_error(found: Sensitivities) -> None:
    """To second order; in 8 bits errors are small, and one layer's direction is not the mean."""
    for name, losses in found.losses(names.HESSIAN).items():
        assert 0.2 < found.losses(names.ALONE)[name][W8] / (losses[W8] / 2) < 5


def chain(*gains: float) -> Graph:
    """Linear layers; each is the identity, turned by an angle and stretched."""
    b = Builder("chain", "transformed")
    x = b.input("x", Tensor((1, 2), F32))
    for i, angle in enumerate(gains):
        turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        x = b.add(Linear(x, b.add(Constant.of(np.array(turn, np.float32) * 3)), None), f"l{i}")
    return b.finish([x])


def test_a_layer_changes_its_input_by_its_angle(pool: Executor) -> None:
    graph = chain(0.0, 0.5, 1.2)
    x = (np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32),)
    actual = input_changes(Subject(graph, x, loss_of(graph, x)), Runner(pool))
    for name, angle in zip(actual, (0.0, 0.5, 1.2), strict=True):
        assert actual[name] == pytest.approx(1 - np.cos(angle), abs=1e-6)


def test_where_shapes_differ_gram_matrices_are_compared(pool: Executor) -> None:
    """Against the formula; a rotation into more channels changes no Gram matrix."""
    rng, b = np.random.default_rng(0), Builder("net", "transformed")
    turn = np.linalg.qr(rng.normal(size=(5, 2)))[0].astype(np.float32)
    other = rng.normal(size=(3, 5)).astype(np.float32)
    x = b.input("x", Tensor((1, 2), F32))
    y = b.add(Linear(x, b.add(Constant.of(turn)), None), "turn")
    graph = b.finish([b.add(Linear(y, b.add(Constant.of(other)), None), "other")])
    a = rng.normal(size=(7, 2)).astype(np.float32)
    actual = input_changes(Subject(graph, (a,), loss_of(graph, (a,))), Runner(pool))
    k, m = (z @ z.T for z in (a, a @ turn.T @ other.T))
    assert actual["turn"] == pytest.approx(0.0, abs=1e-6)
    expected = 1 - (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m)
    assert actual["other"] == pytest.approx(expected, rel=1e-4)


def test_tails_of_weights() -> None:
    b = Builder("net", "transformed")
    w = np.array([[0, 0, 0, 0, 10]], np.float32)
    x = b.input("x", Tensor((1, 5), F32))
    y = b.add(Linear(x, b.add(Constant.of(w)), None), "tail")
    graph = b.finish([b.add(Linear(y, b.add(Constant.of(w[:, :1] + 1)), None), "flat")])
    assert weight_tails(graph) == {"tail": 0.2, "flat": 0.0}


def test_relevance_is_kept_from_layer_to_layer(pool: Executor) -> None:
    """With positive weights and inputs and without biases nothing cancels: each layer has all."""
    rng, b = np.random.default_rng(0), Builder("net", "transformed")
    x = b.input("x", Tensor((1, 4), F32))
    for out in (5, 3, 2):
        w = b.add(Constant.of(rng.uniform(0.1, 1, (out, x.type.shape[1])).astype(np.float32)))
        x = b.add(Relu(b.add(Linear(x, w, None))))
    graph = b.finish([x])
    a = (rng.uniform(0, 1, (6, 4)).astype(np.float32),)
    actual = relevances(Subject(graph, a, loss_of(graph, a)), Runner(pool))
    np.testing.assert_allclose(list(actual.values()), 1 / 3, rtol=1e-5)


def test_agreement_is_spearmans(found: Sensitivities) -> None:
    table = found.agreement(W4)
    for a, b in itertools.product(table, table):
        assert table[a][b] == pytest.approx(table[b][a], nan_ok=True)
        ranks = [np.argsort(np.argsort([c[n] for n in found.values]))
                 for c in (found.columns(W4)[a], found.columns(W4)[b])]  # fmt: skip
        expected = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (3 * (9 - 1))
        assert table[a][b] == pytest.approx(expected)


def test_a_falling_measure_is_turned() -> None:
    values = {str(i): {names.TRACE: i, names.WEIGHT_TAIL: -i, "flat": 1.0} for i in range(4)}
    table = Sensitivities(values, {}, {}).agreement(W4)
    assert table[names.TRACE][names.WEIGHT_TAIL] == pytest.approx(1.0)
    assert np.isnan(table[names.TRACE]["flat"])


def test_json_gives_an_equal_value(found: Sensitivities) -> None:
    assert Sensitivities.from_json(found.to_json()) == found


def test_work_is_resumed_from_the_store(
    ranges: Ranges, found: Sensitivities, pool: Executor, tmp_path: Path
) -> None:
    progress: list[tuple[str, int, int]] = []

    def measure() -> Sensitivities:
        return measure_sensitivities(
            GRAPH, ranges, SAMPLE, CANDIDATES, effort=EFFORT, executor=pool,
            store=Store(tmp_path), tell=lambda *what: progress.append(what),
        )  # fmt: skip

    assert measure() == found
    steps = {what for what, _, _ in progress}
    assert steps == {
        "one layer at a time", "hessian traces", "input changes", "relevance", "eigenvalues"
    }  # fmt: skip
    progress.clear()
    assert measure() == found
    assert all(done == of for _, done, of in progress)  # nothing was left to do


def distance(outputs: tuple[torch.Tensor, ...], at: Array) -> torch.Tensor:
    """From a target for each sample; 5 more, which says nothing of a layer."""
    target = torch.from_numpy(TARGETS[at])
    return (outputs[0] - target).square().sum(1).mean() + 5


def test_a_loss_of_the_users_own(ranges: Ranges, pool: Executor) -> None:
    actual = measure_sensitivities(
        GRAPH, ranges, SAMPLE, CANDIDATES, distance, EFFORT, executor=pool
    )  # fmt: skip
    for name, losses in actual.losses(names.ALONE).items():
        curved = actual.losses(names.HESSIAN)[name][W4] / 2
        assert 0.1 < losses[W4] / curved < 10


def test_errors(found: Sensitivities) -> None:
    with pytest.raises(PassError, match="sensitivities lim: no losses of it, one of hessian, "):
        found.losses(names.INPUT_CHANGE)
    with pytest.raises(PassError, match="sensitivities w2a2: not measured, one of w4a4, w4g2a8"):
        found.agreement(Bits(2, 2))
    two = {name: found.values[name] for name in ("first", "second")}
    with pytest.raises(PassError, match="agreement: 2 layers, at least 3 are needed"):
        Sensitivities(two, {}, {}).agreement(W4)
    with pytest.raises(DataError, match=r"sensitivities: not readable .*, what to_json wrote"):
        Sensitivities.from_json('{"values": {}}')
    with pytest.raises(ParseError, match='bits "wide": not a pair of widths'):
        Sensitivities.from_json('{"values":{},"errors":{},"by_bits":{"m":{"l":{"wide":1}}}}')
