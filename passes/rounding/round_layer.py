"""A layer rounded by its moments: how far they are believed, scales, integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import torch

from qir.ir.types import Array
from qir.passes.quantize.stored_weights import StoredWeights
from qir.passes.rounding.moments import LayerProblem, layer_problem
from qir.passes.rounding.scales import with_best_scales
from qir.passes.rounding.sweep import spreading, swept

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
    """The one of SHRINKAGES whose rounding, by one half of the samples, does best on the other.

    Few samples say little of how inputs move together: weights rounded to make up for each other's
    errors there do worse elsewhere than weights rounded to nearest.
    Source: shrinkage to the diagonal as in Schaefer and Strimmer 2005, doi:10.2202/1544-6115.1175;
            by cross-validation: this project.
    """
    if len(parts) < 2:
        return SHRINKAGES[0]
    halves = [layer_problem(weights, parts[start::2]) for start in (0, 1)]
    losses = [sum(_unseen(replace(mine, shrinkage=s), other) for mine, other in
                  (halves, halves[::-1])) for s in SHRINKAGES]  # fmt: skip
    return SHRINKAGES[int(np.argmin(losses))]


def _unseen(problem: LayerProblem, other: LayerProblem) -> float:
    """The error of some rows, rounded by one part of the samples, on another."""
    w, hessian, total = problem.weights, problem.hessian, 0.0
    wanted, steps = problem.rows(w.wanted), problem.steps
    groups, rows = (_some(n, most) for n, most in zip(wanted.shape, (GROUPS, ROWS), strict=False))
    for g in groups:
        real, step = (torch.tensor(x[g][rows]) for x in (wanted, steps))
        whole = swept(real, step, spreading(hessian[g]), (w.low, w.high))
        error = (whole * step - real).numpy()
        moved = (other.mean[g] - problem.mean[g]) * (w.bias is not None)
        total += float(np.sum((error @ other.own[g]) * error) + np.sum((error @ moved) ** 2))
    return total


def best_ridge(weights: StoredWeights, parts: Sequence[Moments]) -> float:
    """The one of RIDGES whose T, by one half of the samples, gives what is nearest to the float
    graph's on the other; inf with one part.

    What layers before have lost comes back in part by how it goes with what they kept; few samples
    say little of that.
    Source: ridge regression, Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; of a
            layer's weights on what the quantized network brings: this project.
    """
    if len(parts) < 2:
        return RIDGES[0]
    halves = [layer_problem(weights, parts[start::2]) for start in (0, 1)]
    if all(half.is_alone for half in halves):
        return RIDGES[0]  # there is nothing to make up for
    losses = [sum(_apart(replace(mine, ridge=r), other) for mine, other in
                  (halves, halves[::-1])) for r in RIDGES]  # fmt: skip
    return RIDGES[int(np.argmin(losses))]


def _apart(problem: LayerProblem, other: LayerProblem) -> float:
    """mean |T xq + b' - W x - b|**2, but for what no T changes, with T and b' by one part of the
    samples, on another.
    """
    wanted, target = problem.rows(problem.weights.wanted), problem.target
    total = float(np.sum((target @ other.own - 2 * wanted @ other.cross) * target))
    if problem.weights.bias is None:
        return total
    moved = [target @ p.mean[..., None] - wanted @ p.mean_of_float[..., None]
             for p in (problem, other)]  # fmt: skip
    return total + float(np.sum((moved[1] - moved[0]) ** 2))


def _some(count: int, most: int) -> Array:
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
