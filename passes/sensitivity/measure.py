"""Every measure of sensitivity for every layer of a float graph, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.bits.choice import Bits
from qir.passes.bits.costs import omega
from qir.passes.calibrate.ranges import Ranges
from qir.passes.infra.tasks import Store, Tell, quiet
from qir.passes.sensitivity import table as names
from qir.passes.sensitivity.hessian import Traces, hessian_traces, top_eigenvalues
from qir.passes.sensitivity.importance import input_changes, relevances, weight_tails
from qir.passes.sensitivity.output_loss import OwnLoss, Tensors, loss_of
from qir.passes.sensitivity.quantized_layer import Errors, layer_errors, stored_layers
from qir.passes.sensitivity.subject import Runner, Subject
from qir.passes.sensitivity.table import ByBits, Sensitivities

CANDIDATES = (Bits(4, 4), Bits(4, 8), Bits(8, 8))


@dataclass(frozen=True)
class Effort:
    """How much is spent: samples taken from the front, and when the drawing of traces stops
    (`within` of each trace, or `most_draws`); `eigenvalues` are the most expensive measure.
    """

    samples: int = 256
    within: float = 0.1
    most_draws: int = 32
    eigenvalues: bool = True


def measure_sensitivities(
    graph: Graph,
    ranges: Ranges,
    sample: tuple[Array, ...],
    candidates: Sequence[Bits] = CANDIDATES,
    loss: Callable[[Tensors, Array], torch.Tensor] | None = None,
    effort: Effort | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    store: Store | None = None,
    tell: Tell = quiet,
) -> Sensitivities:
    """All measures of all layers of a transformed float graph, on calibration inputs.

    Layers are convolutions and linear ops with constant weights, named by their results. The loss
    is the distance of the outputs from the float network's own (loss_of); a `loss` of the user's
    takes the outputs and the indices of the samples, and gives a mean over these. Candidates are
    the bits for which losses are measured. The same arguments give the same numbers on every
    executor, and again from the store.
    Errors: PassError for a graph without layers or one that mixes samples, DataError for a sample
    that does not fit it.
    """
    budget, runner = effort or Effort(), Runner(executor, store, tell)
    output_loss = loss_of(graph, sample) if loss is None else OwnLoss(loss)
    subject = Subject(graph, sample, output_loss).first(budget.samples)
    errors = layer_errors(subject, stored_layers(graph, ranges, candidates), runner)
    traces = hessian_traces(subject, budget.within, budget.most_draws, seed, runner=runner)
    measures = {
        names.TRACE: _means(traces[0]),
        names.INPUT_TRACE: _means(traces[1]),
        names.INPUT_CHANGE: input_changes(subject, runner),
        names.WEIGHT_TAIL: weight_tails(graph),
        names.RELEVANCE: relevances(subject, runner),
    }
    by_bits = losses_of(traces, errors)
    if budget.eigenvalues:
        tops = top_eigenvalues(subject, seed, runner)
        measures[names.EIGENVALUE] = {n: top / traces[0][n].elements for n, top in tops.items()}
        by_bits[names.EIGENVALUE_LOSS] = {
            n: {bits: omega(tops[n], e.weights) for bits, e in errors[n].items()} for n in errors
        }
    return Sensitivities(
        {name: {measure: column[name] for measure, column in measures.items()} for name in errors},
        by_bits,
        {names.TRACE: _deviations(traces[0]), names.INPUT_TRACE: _deviations(traces[1])},
    )


def losses_of(
    traces: tuple[Traces, Traces], errors: dict[str, dict[Bits, Errors]]
) -> dict[str, ByBits]:
    """The losses of each measure that follow from traces and from errors of single layers.

    A layer that alone makes the loss smaller counts as 0, as in AdaQuant, arXiv:2006.10518.
    """
    by_w, by_x = traces

    def each(loss: Callable[[str, Errors], float]) -> ByBits:
        return {n: {bits: loss(n, e) for bits, e in row.items()} for n, row in errors.items()}

    return {
        names.HESSIAN: each(
            lambda n, e: omega(by_w[n].mean, e.weights) + omega(by_x[n].mean, e.inputs)
        ),
        names.HESSIAN_WEIGHTS: each(lambda n, e: omega(by_w[n].mean, e.weights)),
        names.WEIGHT_NOISE: each(lambda n, e: e.weights / e.power if e.power else 0.0),
        names.OUTPUT_NOISE: each(lambda n, e: e.noise / e.signal if e.signal else 0.0),
        names.ALONE: each(lambda n, e: max(e.loss, 0.0)),
    }


def _means(traces: Traces) -> dict[str, float]:
    return {name: trace.mean for name, trace in traces.items()}


def _deviations(traces: Traces) -> dict[str, float]:
    return {name: trace.error / trace.elements for name, trace in traces.items()}
