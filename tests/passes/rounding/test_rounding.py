"""Rounding of weights: each method against rounding to nearest, and the algebra behind it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.ops import Constant, Conv, Linear, Reshape
from qir.ir.ranges import prove_no_overflow
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes import pipelines
from qir.passes.infra.layers import layers_of
from qir.passes.infra.manager import Manager, Miss, Record
from qir.passes.infra.rebatch import rebatch
from qir.passes.infra.tasks import on_one_thread
from qir.passes.quantize.stored_weights import (
    GroupMultipliers,
    stored_weights,
    with_float_weights,
    with_weights,
)
from qir.passes.quantize.weights import LARGEST_SUM
from qir.passes.rounding import METHODS, rounding_passes
from qir.passes.rounding.adaquant import AdaQuant, AdaQuantBlocks
from qir.passes.rounding.adaround import AdaRound, AdaRoundBlocks
from qir.passes.rounding.blocks import block_units, upstream
from qir.passes.rounding.by_layer import AT_ONCE, LayerWalk, RoundLayers, best_ridge, best_shrinkage
from qir.passes.rounding.column_methods import Gptq, gpfq, gptq, gptq_integers
from qir.passes.rounding.columns import descend
from qir.passes.rounding.forward import stretch
from qir.passes.rounding.moments import LayerProblem, layer_problem, moment_names, moments
from qir.passes.rounding.scales import with_best_scales
from tests.passes.rounding.rounding_net import net, samples, simulated

SAMPLE = samples(96)
OTHER = samples(200, seed=1)  # none of them is in SAMPLE


def error(graph: Graph, reference: Graph) -> float:
    """mean |y - float y|**2 on samples that no method has seen."""
    ys = []
    for one in (graph, reference):
        many = rebatch(one, len(OTHER))
        assert isinstance(many, Graph)
        ys.append(run_float(many, (OTHER,))[0])
    return float(((ys[0] - ys[1]) ** 2).mean())


def ints(graph: Graph) -> Mapping[str, Array]:
    """All integer constants: stored weights, and the integers of groups."""
    constants = [op for op in graph.ops if isinstance(op, Constant)]
    return {op.names[0]: op.value.array for op in constants if op.value.array.dtype.kind in "iu"}


@pytest.mark.parametrize("group", [0, 4])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "rescue-groups"])
def test_every_method_beats_rounding_to_nearest(method: str, group: int) -> None:
    graph = net()
    nearest = simulated(graph, SAMPLE, group=group)
    better = simulated(graph, SAMPLE, *rounding_passes(method, graph, (SAMPLE,)), group=group)
    assert error(better, graph) < 0.7 * error(nearest, graph)
    assert any((ints(better)[name] != old).any() for name, old in ints(nearest).items())
    prove_no_overflow(Manager().run(better, pipelines.TO_INTEGER))


def test_blocks_improve_on_what_is_stored() -> None:
    graph = net()
    layers = simulated(graph, SAMPLE, AdaRound(waves=1))
    both = simulated(graph, SAMPLE, AdaRound(waves=1), AdaQuantBlocks())
    assert error(both, graph) < error(layers, graph)


def test_integers_turn_in_blocks() -> None:
    """Training moves integers, not the scales and biases alone."""
    graph = net()
    blocks = simulated(graph, SAMPLE, AdaQuantBlocks())
    old = ints(simulated(graph, SAMPLE))
    assert any((ints(blocks)[name] != whole).any() for name, whole in old.items())


def test_few_samples_are_believed_less() -> None:
    """12 samples of 64 inputs say little of how these move together, 12,000 say all."""
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(64, 64))
    weights = problem_of(
        np.eye(64), np.zeros((6, 64), np.int8), rng.uniform(-4, 3, (6, 64))
    ).weights

    def shrinkage(count: int) -> float:
        parts = []
        for x in np.split(rng.normal(size=(count, 64)) @ mix, 4):
            own, mean = (x.T @ x)[None], x.sum(0)[None]
            sums = (own, mean, np.asarray(len(x)))
            parts.append(dict(zip(moment_names(weights.layer), sums, strict=False)))
        return best_shrinkage(weights, parts)

    assert shrinkage(12) > shrinkage(12_000) == 0.0


@pytest.mark.parametrize("method", [Gptq, AdaRound, AdaQuant])
def test_later_layers_make_up_for_earlier_ones(method: type[RoundLayers]) -> None:
    """Layers rounded in turn end nearer to the float graph than all at once."""
    graph = net()
    at_once, in_turn = (simulated(graph, SAMPLE, method(waves=n)) for n in (1, None))
    assert error(in_turn, graph) < 0.95 * error(at_once, graph)


def test_waves_of_one_layer_are_layers_in_turn() -> None:
    graph = net()
    assert simulated(graph, SAMPLE, Gptq(waves=4)) == simulated(graph, SAMPLE, Gptq())


def test_a_walk_gives_what_running_from_the_start_does() -> None:
    """Moments of every layer, each op run once or all again, for a graph with a residual."""
    graph = net()
    pairs = simulated(graph, SAMPLE)
    pool = ThreadPoolExecutor(1)
    by = Gptq(executor=pool)
    walk = LayerWalk.started(pairs, graph, (SAMPLE,))
    for op in layers_of(pairs):
        walk, (first, *_) = walk.to(pairs, [op.names[0]], by)
        again = on_one_thread(moments_of, pairs, graph, op.names[0], SAMPLE[:24])
        for name in moment_names(op.names[0]):
            np.testing.assert_array_equal(first[name], again[name])


def test_samples_that_go_one_by_one_are_rounded_too() -> None:
    """A reshape puts the places of a sample on the first axis: nothing runs for many samples."""
    b = Builder("rows", "canonical")
    x = b.input("x", Tensor((1, 6, 6, 4), F32))
    rng = np.random.default_rng(4)
    rows = b.add(Reshape(x, (36, 4)))
    for name in ("first", "second"):
        w = rng.normal(size=(4, 4)).astype(np.float32)
        bias = b.add(Constant.of(np.zeros(4, np.float32)))
        rows = b.add(Linear(rows, b.add(Constant.of(w)), bias), name)
    graph = b.finish([b.add(Reshape(rows, (1, 6, 6, 4)))])
    assert isinstance(rebatch(graph, 2), Miss)

    def off(seen: Graph) -> float:
        pairs = ((run_float(one, (x[None],))[0] for one in (seen, graph)) for x in OTHER[:20])
        return sum(float(((y - expected) ** 2).mean()) for y, expected in pairs)

    assert off(simulated(graph, SAMPLE, Gptq())) < 0.8 * off(simulated(graph, SAMPLE))


def test_adaround_goes_to_a_neighbour() -> None:
    """Each integer is one of the two around what the quantized network's inputs ask for."""
    graph = net()
    rounded = simulated(graph, SAMPLE, AdaRound())
    for op in layers_of(rounded):
        w, name = stored_weights(rounded, graph, op), op.names[0]
        parts = [moments_of(rounded, graph, name, x) for x in np.split(SAMPLE, 4)]
        problem = replace(layer_problem(w, parts), ridge=best_ridge(w, parts))
        wish = (problem.target / problem.steps).reshape(w.stored.shape)
        assert (np.abs(w.stored - wish.clip(w.low, w.high)) < 1.001).all()


def moments_of(seen: Graph, reference: Graph, layer: str, sample: Array) -> Mapping[str, Array]:
    """What a pass learns of a layer that makes up for what is before it."""
    op, of_float = (one.producers[layer] for one in (seen, reference))
    assert isinstance(op, (Conv, Linear)) and isinstance(of_float, (Conv, Linear))
    cut_values = {"x": sample.reshape(-1, *seen.inputs[0].type.shape)}
    pair = (
        stretch(seen, cut_values, [op.x.name], ()),
        stretch(reference, cut_values, [of_float.x.name], ()),
    )
    return moments(*pair, (op,), {layer: of_float.x.name}, cut_values, cut_values, AT_ONCE)


@pytest.mark.parametrize("groups, stride, dilation", [(1, 1, 1), (2, 2, 1), (6, 1, 2), (3, 2, 2)])
def test_moments_give_the_error_of_a_layer(groups: int, stride: int, dilation: int) -> None:
    """mean |W' xq - W x|**2 = tr (W' - T) H (W' - T)' + const, about the means: compared with two
    convolutions, for two choices of W'.
    """
    rng = np.random.default_rng(2)
    w = rng.normal(size=(6, 3, 2, 6 // groups)).astype(np.float32)
    b = Builder("one", "canonical")
    x = b.input("x", Tensor((8, 9, 8, 6), F32))
    bias = b.add(Constant.of(np.zeros(6, np.float32)))
    pad, pair = (1, 0, 2, 1), (stride, stride)
    conv = Conv(x, b.add(Constant.of(w)), bias, pair, pad, (dilation, dilation), groups)
    graph = b.finish([b.add(conv, "y")])
    sample = rng.normal(size=(8, 9, 8, 6)).astype(np.float32)
    pairs = simulated(graph, sample)
    weights = stored_weights(pairs, graph, next(layers_of(pairs)))
    exact = with_float_weights(pairs, {weights.reals: weights.floats})
    problem = layer_problem(weights, [moments_of(exact, graph, "y", sample)])
    (expected,) = run_float(graph, (sample,))
    layer = upstream(pairs, ["y"])
    measured, formula = [], []
    for scale in (0.5, 2.0):
        other = w.astype(np.float64) * scale + 0.1
        (y,) = run_float(with_float_weights(layer, {weights.reals: other}), (sample,))
        off = (y - expected).reshape(-1, 6).astype(np.float64)
        measured.append(off.var(0).sum())
        gap = problem.rows(other) - problem.target
        formula.append(np.einsum("gok,gkl,gol->", gap, problem.hessian, gap))
    # the damping is part of the formula's H: about 1 % of it, and T compensates for it
    assert formula[1] - formula[0] == pytest.approx(measured[1] - measured[0], rel=0.03)


def problem_of(own: Array, stored: Array, wanted: Array, step: float = 1.0) -> LayerProblem:
    graph = net()
    pairs = simulated(graph, SAMPLE)
    some = stored_weights(pairs, graph, next(layers_of(pairs)))
    scale = np.full(len(wanted), step)
    few = {"bias": None, "low": -4, "high": 3, "floor": scale * 0}
    weights = replace(some, stored=stored, floats=wanted, scale=scale, **few)
    zeros = np.zeros((1, len(own)))
    return LayerProblem(weights, own[None], own[None], own[None], zeros, zeros)


@pytest.mark.parametrize("method", [gptq, gpfq])
def test_inputs_without_correlation_are_rounded_to_nearest(method: object) -> None:
    expected = np.random.default_rng(0).uniform(-5, 4, (6, 5))
    problem = problem_of(np.eye(5), np.zeros((6, 5), np.int8), expected)
    whole = method(problem)[problem.weights.constant]  # type: ignore[operator]
    np.testing.assert_array_equal(whole, np.clip(np.rint(expected), -4, 3))


@pytest.mark.parametrize("method", [gptq, gpfq])
def test_equal_inputs_share_their_errors(method: object) -> None:
    """Four inputs that are always equal, weights of 0.4: their sum 1.6 becomes 2, not 0."""
    problem = problem_of(np.ones((4, 4)), np.zeros((1, 4), np.int8), np.full((1, 4), 0.4))
    whole = method(problem)[problem.weights.constant]  # type: ignore[operator]
    assert whole.sum() == 2


def test_a_dead_input_is_rounded_to_nearest() -> None:
    own = np.diag([1.0, 0.0, 2.0])
    problem = problem_of(own, np.zeros((1, 3), np.int8), np.array([[0.6, 1.7, -2.2]]))
    whole = gpfq(problem)[problem.weights.constant]
    np.testing.assert_array_equal(whole, [[1, 2, -2]])


def test_descend_ends_where_no_single_change_helps() -> None:
    rng = np.random.default_rng(3)
    half = rng.normal(size=(2, 7, 20))
    moment, wish = half @ half.swapaxes(1, 2), rng.uniform(-3, 3, (2, 5, 7))
    step = rng.uniform(0.5, 2, (2, 5, 7))
    first, low, high = (
        torch.tensor(x).float() for x in (np.rint(wish), wish * 0 - 3, wish * 0 + 3)
    )
    args = [torch.tensor(x).float() for x in (wish, step, moment)]
    found = descend(first, *args, low, high).numpy().astype(np.float64)

    def loss(whole: Array) -> Array:
        off = (whole - wish) * step
        return np.einsum("gok,gkl,gol->go", off, moment, off)

    assert (loss(found) <= loss(first.numpy()) + 1e-4).all()
    assert (loss(found) < loss(first.numpy()) - 1e-2).any()
    for k in range(7):
        for change in (-1, 1):
            other = found.copy()
            other[..., k] = np.clip(other[..., k] + change, -3, 3)
            assert (loss(other) >= loss(found) - 1e-3).all()


def test_rows_that_could_overflow_keep_their_weights() -> None:
    expected = np.full((2, 3), 2.0)
    weights = problem_of(np.eye(3), np.zeros((2, 3), np.int8), expected).weights
    large = replace(weights, x_reach=LARGEST_SUM // 6 + 1)
    kept = large.checked(np.array([[2, 2, 2], [1, -2, 2]], np.int8))
    np.testing.assert_array_equal(kept, [[0, 0, 0], [1, -2, 2]])


def loss_of_gptq(problem: LayerProblem) -> Array:
    """(O,) tr D H D' of each row, rounded by GPTQ."""
    error = gptq_integers(problem) * problem.steps - problem.target
    return np.asarray(((error @ problem.hessian) * error).sum(-1).reshape(-1))


@pytest.mark.parametrize("block", [0, 3])
def test_scales_are_chosen_by_the_outputs(block: int) -> None:
    """Five rows whose steps are too large, and one whose steps are right."""
    rng = np.random.default_rng(6)
    half = rng.normal(size=(40, 8)) @ rng.normal(size=(8, 8))
    expected = rng.uniform(-2, 2, (6, 8)) * np.array([1, 1, 1, 1, 1, 2])[:, None]
    problem = problem_of(half.T @ half, np.zeros((6, 8), np.int8), expected)
    if block:
        groups = GroupMultipliers("mult", block, np.full((6, 3), 20))
        scale = problem.weights.scale / 20
        problem = replace(problem, weights=replace(problem.weights, groups=groups, scale=scale))
    better = with_best_scales(problem)
    before, after = loss_of_gptq(problem), loss_of_gptq(better)
    assert (after[:5] < 0.7 * before[:5]).all()
    assert after[5] < before[5] * (1 + 1e-6)
    new = better.weights
    nearest = np.clip(np.rint(expected / new.step), new.low, new.high)
    np.testing.assert_array_equal(new.stored, nearest)
    if new.groups is not None:
        assert len(np.unique(new.groups.mult)) > 2
        assert new.groups.mult.min() >= 1
        np.testing.assert_array_equal(better.result(nearest[None])["mult"], new.groups.mult)


def test_a_scale_stays_large_enough_for_its_bias() -> None:
    """A channel of next to no weight: a finer step would bring its bias out of i32."""
    graph = net()
    pairs = simulated(graph, SAMPLE)
    op = next(layers_of(pairs))
    large = np.full(op.result.type.shape[-1], 1e10, np.float32)
    weights = stored_weights(with_weights(pairs, {op.bias.name: large}, "test"), graph, op)
    assert not isinstance(weights, Miss)
    np.testing.assert_array_equal(weights.scaled(weights.scale * 0 + 0.5), weights.scale)
    plain = stored_weights(pairs, graph, op)
    np.testing.assert_allclose(plain.scaled(plain.scale * 0 + 0.5), plain.scale / 2)


def test_integers_of_groups_of_another_layer_stay() -> None:
    problem = problem_of(np.eye(4), np.zeros((2, 4), np.int8), np.full((2, 4), 0.3))
    shared = GroupMultipliers("", 2, np.full((2, 2), 9))
    better = with_best_scales(replace(problem, weights=replace(problem.weights, groups=shared)))
    assert better.weights.groups is not None
    np.testing.assert_array_equal(better.weights.groups.mult, shared.mult)
    assert "" not in better.result(np.zeros((1, 2, 4)))


def test_rows_that_could_overflow_keep_their_scales() -> None:
    expected = np.ones((2, 2))
    weights = problem_of(np.eye(2), np.ones((2, 2), np.int8), expected).weights
    ones = GroupMultipliers("mult", 1, np.ones((2, 2), np.int64))
    tight = replace(weights, groups=ones, x_reach=LARGEST_SUM // 8)
    moved = tight.with_scales(np.array([0.5, 0.25]), replace(ones, mult=np.array([[1, 1], [2, 2]])))
    assert moved.groups is not None
    np.testing.assert_array_equal(moved.scale, [0.5, 1.0])
    np.testing.assert_array_equal(moved.stored, [[2, 2], [1, 1]])
    np.testing.assert_array_equal(moved.groups.mult, [[1, 1], [1, 1]])
    np.testing.assert_array_equal(moved.stored * moved.step, expected)


def test_blocks_are_cut_where_all_paths_meet() -> None:
    graph = net()
    pairs = simulated(graph, SAMPLE)
    layers = [stored_weights(pairs, graph, op) for op in layers_of(pairs)]
    units = block_units(pairs, graph, layers)
    assert [[w.layer for w in unit.layers] for unit in units] == [
        ["first"],
        ["depthwise", "point"],
        ["last"],
    ]
    assert [v.name for v in units[1].graph.outputs] == ["sum_relu"]


def test_adaquant_moves_scales_and_biases() -> None:
    graph = net()
    before, after = simulated(graph, SAMPLE), simulated(graph, SAMPLE, AdaQuant())
    for old, new in zip(layers_of(before), layers_of(after), strict=True):
        a, b = stored_weights(before, graph, old), stored_weights(after, graph, new)
        assert (a.scale != b.scale).any()
        assert (np.abs(np.log(b.scale / a.scale)) < 0.71).all()


def test_layers_without_stored_weights_stay_and_are_told() -> None:
    graph = net()
    record = Record("gptq", METHODS["gptq"][0].claim)
    pool = ThreadPoolExecutor(1)
    (gptq_,) = rounding_passes("gptq", graph, (SAMPLE,), pool)
    assert gptq_.run(graph, record) == graph
    assert {m.why for m in record.misses} == {"its weights are not stored as integers"}
    other = Record("gptq", METHODS["gptq"][0].claim)
    pairs = simulated(graph, SAMPLE)
    b = Builder("empty", "canonical")
    empty = b.finish([b.input("x", Tensor((1, 6, 6, 4), F32))])
    (gptq_,) = rounding_passes("gptq", empty, (SAMPLE,), pool)
    with pytest.raises(PassError, match="none of 4 layers of graph @net is in its reference"):
        gptq_.run(pairs, other)


def test_errors() -> None:
    with pytest.raises(PassError, match="rounding 'best': not known, one of adaround, adaquant,"):
        rounding_passes("best", net(), (SAMPLE,))
    for kind in (AdaRound, AdaQuant, AdaRoundBlocks):
        with pytest.raises(PassError, match=f"{kind.name}: steps is 0, 1 or more is needed"):
            simulated(net(), SAMPLE, kind(steps=0))
    with pytest.raises(PassError, match="gptq: waves is 0, 1 or more is needed"):
        simulated(net(), SAMPLE, Gptq(waves=0))
