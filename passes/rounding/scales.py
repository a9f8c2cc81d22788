"""Scales of channels and of groups, by the outputs of the layer with rounded weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from qir.ir.types import Array
from qir.passes.quantize.stored_weights import GroupMultipliers, StoredWeights
from qir.passes.quantize.weights import LARGEST_MULT
from qir.passes.rounding.columns import Spreading, spreading, swept
from qir.passes.rounding.moments import LayerProblem

CHANGES = (1.0, *(c / 100 for c in range(110, 38, -2) if c != 100))  # of a scale: 1 where equal
ELEMENTS = 1 << 24  # weights that are rounded at once


def with_best_scales(problem: LayerProblem) -> LayerProblem:
    """The same problem with other scales where weights have their own: first those of groups, then
    those of channels.

    Source: this project; scales by the error of outputs as in OBQ and AWQ, of rounded rows.
    """
    w = problem.weights
    if w.is_floating:
        return problem  # its scales are exponents, which the greatest weights of blocks give
    if w.groups is not None and w.groups.name:
        scale, groups = best_groups(problem, w.groups)
        problem = replace(problem, weights=w.with_scales(scale, groups))
    if w.has_channel_scales:
        w = problem.weights
        scale = w.scaled(best_channels(problem))
        problem = replace(problem, weights=w.with_scales(scale, w.groups))
    return problem


def best_channels(problem: LayerProblem) -> Array:
    """(O,) the factor of each channel's scale, of CHANGES, with the least tr D H D' of its row
    after `swept`.
    """
    parts = zip(problem.target, problem.steps, problem.hessian, strict=True)
    limits = problem.weights.low, problem.weights.high
    return np.concatenate([_best(real, step, h, limits) for real, step, h in parts])


def best_groups(problem: LayerProblem, groups: GroupMultipliers) -> tuple[Array, GroupMultipliers]:
    """Scales (O,) and integers that are nearest to the best scale of each group.

    The columns of a group are rounded as if those of all others could make up for their error, as
    real numbers could: their part of H is then the inverse of their part of inverse(H).
    Source: this project.
    """
    w, inverse = problem.weights, np.linalg.inv(problem.hessian)
    limits = w.low, w.high
    target, steps = problem.target, problem.steps
    rows = groups.mult.reshape(len(w.scale), -1)
    group_scales = w.scale[:, None] * rows
    by_part = group_scales.reshape(*target.shape[:2], -1)  # a view: (G, O / G, groups of a row)
    for g in range(len(target)):
        for number, part in enumerate(_columns(w, groups.block)):
            h = np.linalg.inv(inverse[g][part, part])
            by_part[g, :, number] *= _best(target[g][:, part], steps[g][:, part], h, limits)
    most = rows.max(1)  # what sums had room for
    scale = w.rounded(group_scales.max(1) / most)
    mult = np.clip(np.rint(group_scales / scale[:, None]), 1, LARGEST_MULT).astype(np.int64)
    return scale, replace(groups, mult=mult.reshape(groups.mult.shape))


def _columns(weights: StoredWeights, block: int) -> Iterator[slice]:
    """Of each group of a row, as their integers are ordered."""
    inputs = weights.floats.shape[-1]
    for tap in range(0, weights.floats[0].size, inputs):
        for start in range(0, inputs, block):
            yield slice(tap + start, tap + min(start + block, inputs))


def _best(real: Array, step: Array, hessian: Array, limits: tuple[int, int]) -> Array:
    """(R,) of CHANGES the one of each row whose rounded weights have the least tr D H D'."""
    to, h = spreading(hessian), torch.from_numpy(hessian).float()
    target, steps = torch.tensor(real).float(), torch.tensor(step).float()
    changes, size = torch.tensor(CHANGES).float(), max(1, ELEMENTS // target.numel())
    losses = [_losses(target, steps, changes[i : i + size], to, h, limits)
              for i in range(0, len(changes), size)]  # fmt: skip
    return np.asarray(changes[torch.cat(losses).argmin(0)].double())


def _losses(
    target: Any, steps: Any, changes: Any, to: Spreading, hessian: Any, limits: tuple[int, int]
) -> Any:
    """(C, R) of each row with each change."""
    trial_steps = (changes[:, None, None] * steps).flatten(0, 1)
    reals = target.repeat(len(changes), 1)
    error = swept(reals, trial_steps, to, limits) * trial_steps - reals
    return ((error @ hessian) * error).sum(1).reshape(len(changes), -1)
