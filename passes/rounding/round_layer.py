"""A layer rounded by its moments: how far they are believed, scales of channels, integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import torch

from qir.ir.types import Array
from qir.passes.rounding.moments import LayerProblem, layer_problem
from qir.passes.rounding.stored_weights import StoredWeights
from qir.passes.rounding.sweep import spreading, swept

Moments = Mapping[str, Array]
Method = Callable[..., Mapping[str, Array]]

SHRINKAGES = (0.0, 0.1, 0.3, 0.6, 0.9)
RIDGES = (inf, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
ROWS, GROUPS = 64, 16  # of a layer, enough to choose a shrinkage by
CHANGES = (1.0, 1.05, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55)  # of a scale: 1 where equal


def round_layer(
    weights: StoredWeights, parts: Sequence[Moments], method: Method, *options: Any
) -> Mapping[str, Array]:
    """The constants that a method finds for a layer, whose moments are the sums of these parts of
    the samples, with the shrinkage and the scales chosen before.
    """
    shrinkage, ridge = best_shrinkage(weights, parts), best_ridge(weights, parts)
    problem = replace(layer_problem(weights, parts), shrinkage=shrinkage, ridge=ridge)
    if not weights.has_channel_scales:
        return method(problem, *options)
    scale = weights.scaled(best_changes(problem).reshape(-1))
    step = weights.step * (scale / weights.scale).reshape(-1, *[1] * (weights.step.ndim - 1))
    return method(replace(problem, weights=replace(weights, scale=scale, step=step)), *options)


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


def best_changes(problem: LayerProblem) -> Array:
    """(G, O / G, 1): what each channel's scale is times to be, of CHANGES, for the least error
    tr D H D' of its row after `swept`.

    Source: this project; scales by the error of outputs as in OBQ and AWQ, of rounded rows.
    """
    w, target, steps, hessian = problem.weights, problem.target, problem.steps, problem.hessian
    changes = torch.tensor(CHANGES)
    best = []
    for real, step, h in zip(target, steps, hessian, strict=True):
        tried = (changes[:, None, None] * torch.tensor(step).float()).flatten(0, 1)
        wish = torch.tensor(real).float().repeat(len(CHANGES), 1)
        whole = swept(wish, tried, spreading(h), (w.low, w.high))
        error = whole * tried - wish
        loss = ((error @ torch.from_numpy(h).float()) * error).sum(1)
        best.append(changes[loss.reshape(len(CHANGES), -1).argmin(0)])
    return torch.stack(best)[..., None].double().numpy()
