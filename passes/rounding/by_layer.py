"""Rounding layer by layer: the passes' base, the walk along both graphs, and one layer's work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, rows_of
from qir.passes.calibrate.state import graph_digest
from qir.passes.infra.layers import layers_of
from qir.passes.infra.tasks import Task, run_tasks
from qir.passes.quantize.stored_weights import StoredWeights, with_float_weights
from qir.passes.rounding.base import RoundWeights, with_results
from qir.passes.rounding.blocks import extract
from qir.passes.rounding.columns import spreading, swept
from qir.passes.rounding.forward import CutValues, cut_before, stretch
from qir.passes.rounding.moments import SIDES, LayerProblem, layer_problem, moment_names, moments
from qir.passes.rounding.scales import with_best_scales

Moments = Mapping[str, Array]
Method = Callable[..., Mapping[str, Array]]

SHRINKAGES = (0.0, 0.1, 0.3, 0.6, 0.9)
RIDGES = (inf, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
ROWS, GROUPS = 64, 256  # of a layer, enough to choose a shrinkage by


def round_layer(
    weights: StoredWeights, parts: Sequence[Moments], method: Method, *options: Any
) -> Mapping[str, Array]:
    """The constants that a method finds for a layer, whose moments are the sums of these parts of
    the samples, with the shrinkage and the scales chosen before.
    """
    shrinkage, ridge = best_shrinkage(weights, parts), best_ridge(weights, parts)
    problem = replace(layer_problem(weights, parts), shrinkage=shrinkage, ridge=ridge)
    return method(with_best_scales(problem), *options)


def best_shrinkage(weights: StoredWeights, parts: Sequence[Moments]) -> float:
    """The best of SHRINKAGES by two-fold cross-validation of the rounded layer.

    Few samples estimate covariances poorly: weights that compensate for each other's errors on them
    are worse elsewhere than weights rounded to nearest.
    Source: shrinkage to the diagonal as in Schaefer and Strimmer 2005, doi:10.2202/1544-6115.1175;
            by cross-validation: this project.
    """
    if len(parts) < 2:
        return SHRINKAGES[0]
    halves = [layer_problem(weights, parts[start::2]) for start in (0, 1)]
    losses = [sum(_unseen(replace(problem, shrinkage=s), other) for problem, other in
                  (halves, halves[::-1])) for s in SHRINKAGES]  # fmt: skip
    return SHRINKAGES[int(np.argmin(losses))]


def _unseen(problem: LayerProblem, other: LayerProblem) -> float:
    """The error of some rows, rounded by one part of the samples, on another."""
    w, hessian, total = problem.weights, problem.hessian, 0.0
    floats, steps = problem.rows(w.floats), problem.steps
    groups, rows = (_some(n, most) for n, most in zip(floats.shape, (GROUPS, ROWS), strict=False))
    for g in groups:
        real, step = (torch.tensor(x[g][rows]) for x in (floats, steps))
        integers = swept(real, step, spreading(hessian[g]), (w.low, w.high))
        error = (integers * step - real).numpy()
        mean_shift = (other.mean[g] - problem.mean[g]) * (w.bias is not None)
        total += float(np.sum((error @ other.own[g]) * error) + np.sum((error @ mean_shift) ** 2))
    return total


def best_ridge(weights: StoredWeights, parts: Sequence[Moments]) -> float:
    """The best of RIDGES by two-fold cross-validation of T's outputs against the float graph's; inf
    with one part.

    T recovers part of the earlier layers' error by its correlation with their outputs, which few
    samples estimate poorly.
    Source: ridge regression, Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; of a
            layer's weights on what the quantized network brings: this project.
    """
    if len(parts) < 2:
        return RIDGES[0]
    halves = [layer_problem(weights, parts[start::2]) for start in (0, 1)]
    if all(half.is_alone for half in halves):
        return RIDGES[0]  # there is nothing to make up for
    losses = [sum(_distance(replace(problem, ridge=r), other) for problem, other in
                  (halves, halves[::-1])) for r in RIDGES]  # fmt: skip
    return RIDGES[int(np.argmin(losses))]


def _distance(problem: LayerProblem, other: LayerProblem) -> float:
    """mean |T xq + b' - W x - b|**2, but for what no T changes, with T and b' by one part of the
    samples, on another.
    """
    floats, target = problem.rows(problem.weights.floats), problem.target
    total = float(np.sum((target @ other.own - 2 * floats @ other.cross) * target))
    if problem.weights.bias is None:
        return total
    mean_shifts = [target @ p.mean[..., None] - floats @ p.mean_of_float[..., None]
             for p in (problem, other)]  # fmt: skip
    return total + float(np.sum((mean_shifts[1] - mean_shifts[0]) ** 2))


def _some(count: int, most: int) -> Array:
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


PARTS = 4  # tasks that the samples are cut into
AT_ONCE = 16  # samples that run together, fewer where values are large


@dataclass(frozen=True)
class RoundLayers(RoundWeights):
    """Base of the passes that round each layer by the moments of its inputs.

    A layer behind another one of its wave compensates for its own rounding alone; the first ones
    also compensate for the error of earlier waves.
    """

    def rounded(
        self, graph: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Iterator[Graph]:
        walk, start = LayerWalk.started(graph, reference, self.sample), 0
        for wave in self.in_waves(layers):
            names = [w.layer for w in wave]
            function, options = self.work()
            of = f"{self.name} {options!r} {graph_digest(graph)} {graph_digest(reference)}"
            keys = [f"{of} {names} {self.digest} {name}" for name in names]
            sums: Sequence[Mapping[str, Array]] = ()
            if not self.has_all(keys):  # else the walk goes on later, from where it is
                simulated = with_float_weights(graph, {w.reals: w.floats for w in wave})
                walk, sums = walk.to(simulated, names, self)
            results = self.tasks([
                Task(key, round_layer, (w, _moments_of(sums, w.layer), function, *options))
                for key, w in zip(keys, wave, strict=True)
            ], start, len(layers))  # fmt: skip
            graph, start = with_results(graph, results, self.name), start + len(wave)
            yield graph


@dataclass(frozen=True)
class LayerWalk:
    """How far both graphs have been run: for each part of the samples the values at a cut of the
    simulated graph, and of the reference. As many samples run together all the way, so that one
    long step gives the same floats as two short ones.
    """

    reference: Graph
    cut_values: tuple[tuple[CutValues, CutValues], ...]
    at_once: int

    @staticmethod
    def started(graph: Graph, reference: Graph, sample: tuple[Array, ...]) -> LayerWalk:
        run_rows = rows_of(graph.inputs[0])
        runs = [x.reshape(-1, *v.type.shape) for v, x in zip(graph.inputs, sample, strict=True)]
        size = -(-len(runs[0]) // PARTS)
        parts = (
            tuple(
                {v.name: x[i : i + size] for v, x in zip(g.inputs, runs, strict=True)}
                for g in (graph, reference)
            )
            for i in range(0, len(runs[0]), size)
        )
        at_once = min(AT_ONCE, max(1, chunk_of(graph) // run_rows))
        return LayerWalk(reference, tuple((first, second) for first, second in parts), at_once)

    def to(
        self, simulated: Graph, wave: Sequence[str], by: RoundWeights
    ) -> tuple[LayerWalk, Sequence[Mapping[str, Array]]]:
        """On to the cut before these layers, and the moments of what they read in each part."""
        layers = tuple(op for op in layers_of(simulated) if op.names[0] in wave)
        float_inputs = {op.names[0]: op.x.name for op in layers_of(self.reference)}
        cut = cut_before(simulated, wave)
        floats = {
            op.names[0]: float_inputs[op.names[0]]
            for op in layers
            if not _has_layers(simulated, cut, op.x.name, wave)
        }
        (first, others), *_ = self.cut_values
        pair = (
            stretch(simulated, first, [op.x.name for op in layers], cut),
            stretch(self.reference, others, floats.values(), cut_before(self.reference, wave)),
        )
        results = run_tasks(f"{by.name}: moments", [
            Task("", moments, (*pair, layers, floats, *part, self.at_once))
            for part in self.cut_values
        ], by.executor)  # fmt: skip
        cut_values = tuple(
            tuple(
                {name: part[f"{side}{name}"] for name in one.cut}
                for side, one in zip(SIDES, pair, strict=True)
            )
            for part in results
        )
        return replace(self, cut_values=tuple((a, b) for a, b in cut_values)), results


def _has_layers(graph: Graph, cut: Sequence[str], name: str, layers: Sequence[str]) -> bool:
    """Whether one of the layers is between the cut and a value."""
    part = extract(graph, cut, [name])
    return any(op.names[0] in layers for op in part.ops)


def _moments_of(sums: Sequence[Mapping[str, Array]], layer: str) -> list[Mapping[str, Array]]:
    """Of the moments of all layers those of one."""
    return [{key: part[key] for key in moment_names(layer) if key in part} for part in sums]
