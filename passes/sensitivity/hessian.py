"""The Hessian of the loss by each layer's weights and by each layer's input: traces, eigenvalues.

The loss is a mean over samples. By weights, H_l is the Hessian of that mean; by inputs, which each
sample has of its own, the trace is the mean over samples of the trace for one. With KL both are in
nats per square of the weights' or the inputs' unit: 1/2 * mean trace * squared error is the loss
that a small error of no preferred direction brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch

from qir.ir.errors import PassError
from qir.ir.types import Array
from qir.passes.infra.tasks import Result
from qir.passes.sensitivity.output_loss import OutputLoss
from qir.passes.sensitivity.probe import Leaves, Probe, rademacher
from qir.passes.sensitivity.subject import Part, Runner, Subject

ROUND = 4  # draws before the first look at the errors; then half as many again as there are
EIGEN_SAMPLES = 32
EIGEN_STEPS = 20
EIGEN_CHANGE = 0.01  # of the eigenvalue, in one step of the power iteration
WEIGHTS, INPUTS = "weights", "inputs"


class Estimator(Enum):
    """The space in which the random signs v of a trace are drawn.

        PARAMETERS  Tr(H_l) ~ mean of v_l^T (H v)_l, v over all layers at once; any loss
        OUTPUTS     Tr(H_l) ~ mean of ||J_l^T R v||^2, J_l = d outputs / d layer, R R^T the Hessian
                    of the loss by the outputs; for a loss whose gradient by them is 0

    Both have the mean Tr(H_l), as E[v v^T] = 1 and, without a gradient by the outputs, H_l =
    J_l^T R R^T J_l. OUTPUTS needs one backward pass a draw instead of two and a double one, and no
    layer's draw holds what other layers add: its error is several times less.
    Source: PARAMETERS: Hutchinson 1990, as in PyHessian, arXiv:1912.07145, and HAWQ-V2,
    arXiv:1911.03852; OUTPUTS: the same on the other side of the Gauss-Newton product, this project.
    """

    PARAMETERS = "parameters"
    OUTPUTS = "outputs"


@dataclass(frozen=True)
class Trace:
    """A trace as estimated: mean of the draws, its standard error, and the size of the diagonal."""

    value: float
    error: float
    elements: int

    @property
    def mean(self) -> float:
        """Trace over elements: the mean of the Hessian's diagonal."""
        return self.value / self.elements

    @property
    def relative_error(self) -> float:
        """Standard error over |trace|; 0 where both are 0."""
        if self.error == 0:
            return 0.0
        return self.error / abs(self.value) if self.value else float("inf")


Traces = Mapping[str, Trace]


def hessian_traces(
    subject: Subject,
    within: float = 0.1,
    most_draws: int = 32,
    seed: int = 0,
    estimator: Estimator | None = None,
    runner: Runner | None = None,
) -> tuple[Traces, Traces]:
    """The traces by the weights and by the inputs of all layers.

    A draw is one pass over the sample, each chunk with signs of its own. Drawing stops when the
    relative standard error of every trace is at most `within`, or after `most_draws`. The estimator
    is OUTPUTS where the loss allows it.
    Errors: PassError for OUTPUTS with a loss of the user's own, or less than two draws.
    """
    method = estimator or _best_estimator(subject)
    if method is Estimator.OUTPUTS and not isinstance(subject.loss, OutputLoss):
        raise PassError(
            "hessian-traces: OUTPUTS is asked for with a loss of the user's own, PARAMETERS is "
            "needed"
        )
    if most_draws < 2:
        raise PassError(f"hessian-traces: {most_draws} draws, at least 2 are needed for an error")
    parts, shares = subject.parts(), np.array([part.share for part in subject.parts()])
    draws: list[dict[str, Array]] = []
    while True:
        first = sum(len(d[WEIGHTS]) for d in draws)
        count = min(max(ROUND, first // 2), most_draws - first)
        results = (runner or Runner()).run(
            "hessian traces", subject, draw_traces,
            [(f"{method.value} seed {seed} draws {first}+{count} part {i} of {len(parts)}",
              (part, method, seed, i, first, count)) for i, part in enumerate(parts)],
        )  # fmt: skip
        draws.append(
            {
                k: np.tensordot(shares, np.stack([f[k] for f in results]), 1)
                for k in (WEIGHTS, INPUTS)
            }
        )
        traces = tuple(_traces(subject, np.concatenate([d[k] for d in draws]), k)
                       for k in (WEIGHTS, INPUTS))  # fmt: skip
        worst = max(t.relative_error for group in traces for t in group.values())
        if worst <= within or first + count >= most_draws:
            return traces[0], traces[1]


def _best_estimator(subject: Subject) -> Estimator:
    is_own = isinstance(subject.loss, OutputLoss)
    return Estimator.OUTPUTS if is_own else Estimator.PARAMETERS


def _traces(subject: Subject, draws: Array, kind: str) -> Traces:
    """draws: (draws, layers)"""
    probe = Probe(subject.graph, subject.graph.inputs[0].type.shape[0])
    batch = subject.graph.inputs[0].type.shape[0]
    error = draws.std(0, ddof=1) / len(draws) ** 0.5 if len(draws) > 1 else np.inf * draws[0]
    sizes = {
        name: op.w.type.size if kind == WEIGHTS else op.x.type.size // batch
        for name, op in probe.layers.items()
    }
    return {
        name: Trace(float(draws[:, i].mean()), float(error[i]), size)
        for i, (name, size) in enumerate(sizes.items())
    }


def draw_traces(
    part: Part, method: Estimator, seed: int, at: int, first: int, count: int
) -> Result:
    """The task: draws of the traces on one chunk, (count, layers) for weights and for inputs."""
    draw = _by_outputs if method is Estimator.OUTPUTS else _by_parameters
    draws = draw(part, [(seed, at, k) for k in range(first, first + count)])
    return {WEIGHTS: np.array(draws[0]), INPUTS: np.array(draws[1])}


Draws = tuple[list[list[float]], list[list[float]]]


def _by_outputs(part: Part, seeds: Sequence[tuple[int, ...]]) -> Draws:
    assert isinstance(part.loss, OutputLoss)
    probe = Probe(part.graph, len(part.at))
    leaves = probe.leaves(weights=True, inputs=True)
    outputs = probe.run(part.arrays, leaves)
    floats = [y.detach() for y in outputs]
    draws: Draws = ([], [])
    for seed in seeds:
        signs = rademacher({str(i): y for i, y in enumerate(floats)}, seed)
        gradients = torch.autograd.grad(
            outputs,
            [*leaves.weights.values(), *leaves.inputs.values()],
            grad_outputs=part.loss.root(floats, list(signs.values())),
            retain_graph=True,
            materialize_grads=True,
        )
        squares = [float(g.double().square().sum()) for g in gradients]
        draws[0].append(squares[: len(leaves.weights)])
        draws[1].append(squares[len(leaves.weights) :])
    return draws


def _by_parameters(part: Part, seeds: Sequence[tuple[int, ...]]) -> Draws:
    probe = Probe(part.graph, len(part.at))
    sums: Draws = ([], [])
    # apart: what weights and inputs have in common would only add to the errors of both
    for kind, draws in ((WEIGHTS, sums[0]), (INPUTS, sums[1])):
        leaves = probe.leaves(kind == WEIGHTS, kind == INPUTS)
        curvature = Curvature(part, probe, leaves, leaves.weights if kind == WEIGHTS
                              else leaves.inputs)  # fmt: skip
        for seed in seeds:
            v = rademacher(curvature.by, (*seed, len(kind)))
            product = curvature.times(v)
            draws.append([float((v[n].double() * product[n]).sum()) for n in v])
    return sums


class Curvature:
    """The Hessian of the loss on one chunk by some leaves, as a product with a vector."""

    def __init__(
        self, part: Part, probe: Probe, leaves: Leaves, by: Mapping[str, torch.Tensor]
    ) -> None:
        self.by = by
        outputs = probe.run(part.arrays, leaves)
        loss = part.loss(outputs, [y.detach() for y in outputs], part.at)
        self._gradients = torch.autograd.grad(
            loss, list(by.values()), create_graph=True, materialize_grads=True
        )

    def times(self, v: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """H v, by reverse mode twice."""
        dot = torch.stack(
            [(g * v[n]).sum() for n, g in zip(self.by, self._gradients, strict=True)]
        ).sum()
        if not dot.requires_grad:  # a loss that is linear in the leaves
            return {name: torch.zeros_like(x) for name, x in self.by.items()}
        products = torch.autograd.grad(
            dot, list(self.by.values()), retain_graph=True, materialize_grads=True
        )
        return dict(zip(self.by, products, strict=True))


def top_eigenvalues(
    subject: Subject, seed: int = 0, runner: Runner | None = None
) -> dict[str, float]:
    """The eigenvalue of largest size of each layer's Hessian by its weights, by power iteration.

    On at most EIGEN_SAMPLES samples, and on no more than one chunk; until one step changes it by
    less than EIGEN_CHANGE of it, at most EIGEN_STEPS.
    Source: HAWQ, arXiv:1905.03696, section 3.1.
    """
    part = subject.first(EIGEN_SAMPLES).parts()[0]
    names = list(Probe(part.graph, len(part.at)).layers)
    results = (runner or Runner()).run(
        "eigenvalues", subject, power_iteration,
        [(f"{name} seed {seed}", (part, name, seed)) for name in names],
    )  # fmt: skip
    return {name: float(f["value"]) for name, f in zip(names, results, strict=True)}


def power_iteration(part: Part, layer: str, seed: int) -> Result:
    """The task: the top eigenvalue of one layer's block."""
    probe = Probe(part.graph, len(part.at))
    leaves = probe.leaves(weights=False, inputs=False)
    only = {layer: leaves.weights[layer].requires_grad_()}
    curvature = Curvature(part, probe, leaves, only)
    v, value = rademacher(only, (seed,))[layer], 0.0
    for _ in range(EIGEN_STEPS):
        v = v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
        product = curvature.times({layer: v})[layer]
        before, value = value, float((v * product).sum())
        if abs(value - before) <= EIGEN_CHANGE * abs(value):
            break
        v = product
    return {"value": np.array(value)}
