"""Traces and eigenvalues against whole Hessians of small nets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from qir.ir.errors import DataError, PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Constant,
    Conv,
    Linear,
    ReduceMean,
    ReduceSum,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
)  # fmt: skip
from qir.ir.types import F32, Array, Tensor
from qir.passes.sensitivity.hessian import (
    INPUTS,
    WEIGHTS,
    Estimator,
    Trace,
    hessian_traces,
    top_eigenvalues,
)  # fmt: skip
from qir.passes.sensitivity.output_loss import Distance, OwnLoss, loss_of
from qir.passes.sensitivity.probe import Probe, layers_to_quantize
from qir.passes.sensitivity.subject import Runner, Subject

SAMPLES = 12


class Net(Builder):
    """A small graph, weights drawn in order."""

    def __init__(self, *shape: int) -> None:
        super().__init__("net", "transformed")
        self.rng = np.random.default_rng(3)
        self.x = self.input("x", Tensor((1, *shape), F32))

    def draw(self, *shape: int) -> Value:
        return self.add(Constant.of(self.rng.normal(0, 0.6, shape).astype(np.float32)))

    def conv(self, x: Value, out: int, k: int) -> Value:
        w, b, pad = self.draw(out, k, k, x.type.shape[3]), self.draw(out), k // 2
        return self.add(Conv(x, w, b, (1, 1), (pad,) * 4, (1, 1), 1))

    def linear(self, x: Value, out: int) -> Value:
        return self.add(Linear(x, self.draw(out, x.type.shape[-1]), self.draw(out)))


def dense() -> Graph:
    net = Net(5)
    hidden = net.add(Sigmoid(net.linear(net.x, 4)))
    return net.finish([net.linear(hidden, 3)])


def convolutional() -> Graph:
    net = Net(3, 3, 2)
    a = net.add(Relu(net.conv(net.x, 3, 3)))
    b = net.add(Relu(net.conv(a, 2, 1)))
    return net.finish([net.linear(net.add(Reshape(b, (1, 18))), 3)])


def residual() -> Graph:
    net = Net(3, 3, 2)
    a = net.add(Relu(net.conv(net.x, 2, 3)))
    b = net.add(Add(net.conv(a, 2, 3), a))
    return net.finish([net.linear(net.add(ReduceMean(net.add(Relu(b)), (1, 2), False)), 4)])


def probabilities() -> Graph:
    net = Net(5)
    return net.finish([net.add(Softmax(net.linear(net.add(Relu(net.linear(net.x, 4))), 3)))])


def two_outputs() -> Graph:
    """Logits, and as many numbers as the input has."""
    net = Net(5)
    hidden = net.add(Sigmoid(net.linear(net.x, 4)))
    return net.finish([net.linear(hidden, 3), net.linear(hidden, 5)])


NETS = (dense, convolutional, residual, probabilities, two_outputs)


def subject(graph: Graph) -> Subject:
    x = np.random.default_rng(5).normal(size=(SAMPLES, *graph.inputs[0].type.shape[1:]))
    sample = (x.astype(np.float32),)
    return Subject(graph, sample, loss_of(graph, sample))


@pytest.fixture(scope="module")
def here() -> Iterator[Runner]:
    with ThreadPoolExecutor(1) as pool:
        yield Runner(pool)


def divergence(outputs: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The same loss, written out once more for the nets above."""
    total = torch.zeros(())
    for y, p in zip(outputs, wanted, strict=True):
        if y.shape[1] == 5:
            total = total + ((y - p) ** 2).sum() / (p**2).sum()
        elif bool((p.sum(1) - 1).abs().max() < 1e-5):
            total = total + (p * (p / y).log()).sum() / len(y)
        else:
            q = torch.softmax(p, 1)
            total = total + (q * (q.log() - torch.log_softmax(y, 1))).sum() / len(y)
    return total


def hessians(whole: Subject, kind: str) -> dict[str, Array]:
    """The Hessian of each layer's block, (elements, elements)."""
    probe = Probe(whole.graph, SAMPLES)
    leaves = probe.leaves(False, False)
    group = leaves.weights if kind == WEIGHTS else leaves.inputs
    expected = probe.run(whole.sample, leaves)
    hessian_by_layer = {}
    for name, x in group.items():

        def loss(flat: torch.Tensor, name: str = name, x: torch.Tensor = x) -> torch.Tensor:
            leaves_by_name = {**group, name: flat.reshape(x.shape)}
            weights, inputs = (
                (leaves_by_name, leaves.inputs)
                if kind == WEIGHTS
                else (leaves.weights, leaves_by_name)
            )
            return divergence(probe.run(whole.sample, type(leaves)(weights, inputs)), expected)

        hessian_by_layer[name] = (
            torch.autograd.functional.hessian(loss, x.reshape(-1)).double().numpy()
        )
    return hessian_by_layer


@pytest.mark.parametrize(
    ("make", "how"),
    [(make, Estimator.OUTPUTS) for make in NETS if make is not residual]
    + [
        (dense, Estimator.PARAMETERS),
        pytest.param(residual, Estimator.OUTPUTS, marks=pytest.mark.full),
        pytest.param(two_outputs, Estimator.PARAMETERS, marks=pytest.mark.full),
    ],
)
def test_traces_are_those_of_the_whole_hessian(
    make: Callable[[], Graph], how: Estimator, here: Runner
) -> None:
    whole = subject(make())
    traces = hessian_traces(whole, 0.02, 10000, 1, how, here)
    for kind, found in zip((WEIGHTS, INPUTS), traces, strict=True):
        for name, block in hessians(whole, kind).items():
            assert found[name].value == pytest.approx(np.trace(block), rel=0.05)
            assert abs(found[name].value - np.trace(block)) < 5 * found[name].error + 1e-5


@pytest.mark.parametrize("make", NETS)
def test_eigenvalues_are_those_of_the_whole_hessian(
    make: Callable[[], Graph], here: Runner
) -> None:
    whole = subject(make())
    eigenvalues = top_eigenvalues(whole, 0, here)
    for name, block in hessians(whole, WEIGHTS).items():
        assert eigenvalues[name] == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=0.05)


def test_by_inputs_the_diagonal_is_of_one_sample() -> None:
    graph = residual()
    one = subject(graph)
    shape = layers_to_quantize(graph)["conv"].x.type.shape
    traces = hessian_traces(one, 1.0, 4, runner=Runner(ThreadPoolExecutor(1)))
    assert traces[1]["conv"].elements == np.prod(shape)
    assert traces[0]["conv"].elements == layers_to_quantize(graph)["conv"].w.type.size


def test_drawing_stops_at_the_error_asked_for(here: Runner) -> None:
    whole = subject(convolutional())
    for within in (0.3, 0.1):
        traces = hessian_traces(whole, within, 4000, runner=here)
        assert max(t.relative_error for group in traces for t in group.values()) <= within
    few = hessian_traces(whole, 0.0, 2, runner=here)[0]
    assert all(np.isfinite(t.error) and t.error > 0 for t in few.values())


def test_outputs_need_fewer_draws_than_parameters(here: Runner) -> None:
    """The reason why it is the default, by the sum of squared relative errors at equal draws."""
    whole = subject(residual())
    spent = {
        how: sum(
            t.relative_error**2
            for group in hessian_traces(whole, 0.0, 64, 0, how, here)
            for t in group.values()
        )
        for how in Estimator
    }
    assert spent[Estimator.OUTPUTS] < spent[Estimator.PARAMETERS]


def labels(outputs: tuple[torch.Tensor, ...], at: Array) -> torch.Tensor:
    """Cross-entropy against labels that the indices name: its gradient is not 0."""
    return torch.nn.functional.cross_entropy(outputs[0], torch.from_numpy(at % 3))


def test_a_loss_of_the_users_own(here: Runner) -> None:
    subject_of_labels = Subject(dense(), subject(dense()).sample, OwnLoss(labels))
    found, _ = hessian_traces(subject_of_labels, 0.02, 2000, runner=here)
    probe = Probe(subject_of_labels.graph, SAMPLES)
    leaves = probe.leaves(False, False)
    for name, x in leaves.weights.items():

        def loss(flat: torch.Tensor, name: str = name, x: torch.Tensor = x) -> torch.Tensor:
            leaves_by_name = {**leaves.weights, name: flat.reshape(x.shape)}
            outputs = probe.run(
                subject_of_labels.sample, type(leaves)(leaves_by_name, leaves.inputs)
            )
            return labels(outputs, np.arange(SAMPLES))

        exact = torch.autograd.functional.hessian(loss, x.reshape(-1))
        assert found[name].value == pytest.approx(float(torch.trace(exact)), rel=0.05)


def test_a_chunk_counts_by_its_samples(here: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = subject(residual())
    monkeypatch.setattr("qir.passes.sensitivity.subject.chunk_size", lambda graph: 8)
    assert [len(p.at) for p in whole.parts()] == [8, 4]
    assert [p.share for p in whole.parts()] == [2 / 3, 1 / 3]
    found, _ = hessian_traces(whole, 0.02, 2000, runner=here)
    for name, block in hessians(whole, WEIGHTS).items():
        assert found[name].value == pytest.approx(np.trace(block), rel=0.05)


def test_the_distance_of_an_output_is_told_by_its_shape() -> None:
    whole = subject(two_outputs())
    loss = loss_of(whole.graph, whole.sample)
    assert loss.distances == (Distance.LOGITS, Distance.SQUARES)
    assert loss.powers[0] == 1.0 and loss.powers[1] > 0
    assert loss_of(probabilities(), whole.sample).distances == (Distance.PROBABILITIES,)


def test_a_trace_of_zero_has_no_relative_error() -> None:
    assert Trace(0.0, 0.0, 4).relative_error == 0.0
    assert Trace(0.0, 1.0, 4).relative_error == np.inf
    assert Trace(8.0, 1.0, 4).mean == 2.0


def vector(outputs: tuple[torch.Tensor, ...], at: Array) -> torch.Tensor:
    return outputs[0].sum(1)


def mixing() -> Graph:
    net = Net(3)
    y = net.linear(net.x, 2)
    return net.finish([net.add(ReduceSum(y, (0,), True))])


def test_errors(here: Runner) -> None:
    whole = subject(dense())
    own = Subject(whole.graph, whole.sample, OwnLoss(labels))
    with pytest.raises(PassError, match="OUTPUTS is asked for with a loss of the user's own"):
        hessian_traces(own, estimator=Estimator.OUTPUTS, runner=here)
    with pytest.raises(PassError, match=r"hessian-traces: 1 draws, at least 2 are needed"):
        hessian_traces(whole, most_draws=1, runner=here)
    with pytest.raises(PassError, match=r"the loss has shape \[12\], one number is needed"):
        hessian_traces(Subject(whole.graph, whole.sample, OwnLoss(vector)), runner=here)
    hidden = Subject(whole.graph, whole.sample, OwnLoss(lambda outputs, at: outputs[0].sum()))
    with pytest.raises(PassError, match=r"cannot be pickled .*\nhint: define the function at"):
        hessian_traces(hidden, runner=here)
    with pytest.raises(DataError, match="the sample is empty"):
        Subject(whole.graph, (whole.sample[0][:0],), whole.loss)
    with pytest.raises(DataError, match=r"shape \[12, 4\] for input %x"):
        Subject(whole.graph, (whole.sample[0][:, :4],), whole.loss)
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(PassError, match=r"reduce_sum goes over the batch axis at %reduce_sum"):
        hessian_traces(Subject(mixing(), (x,), whole.loss), runner=here)
    net = Net(3)
    with pytest.raises(PassError, match="sensitivity @net: no layer, a convolution or linear op"):
        layers_to_quantize(net.finish([net.add(Relu(net.x))]))


def test_the_runner_may_be_any_executor() -> None:
    class AtOnce(Executor):
        """Runs each task when it is given, here."""

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    whole = subject(convolutional())
    pools: list[Executor | None] = [AtOnce(), ThreadPoolExecutor(3), None]
    first, *others = [hessian_traces(whole, 0.0, 4, runner=Runner(pool)) for pool in pools]
    assert all(first == other for other in others)
