"""GPFQ: greedy path following, each weight rounded to where the path of the sums is met best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.rounding.base import Function
from qir.passes.rounding.moments import TINY, LayerProblem
from qir.passes.rounding.round_layers import RoundLayers


def gpfq(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer, with H = sum xq xq', for each column t:

    q_t = clamp(half_even((sum_(j <= t) H_jt T_j - sum_(j < t) H_jt q_j step_j) / (H_tt step_t))),
    the best integer for the part of the outputs that columns up to t bring; in float64, from the
    largest H_tt on. A column that is always 0 is rounded to nearest.
    """
    w, own, steps = problem.weights, problem.own, problem.steps
    wanted = problem.target
    whole = np.empty_like(wanted)
    for g in range(len(own)):
        path = np.zeros_like(wanted[g])  # sum_j H_jt (T_j - q_j step_j) so far, for every t
        for t in np.argsort(-np.diag(own[g]), kind="stable"):
            path += wanted[g, :, t, None] * own[g, t]
            dead = own[g, t, t] <= TINY
            best = wanted[g, :, t] if dead else path[:, t] / own[g, t, t]
            whole[g, :, t] = np.clip(np.rint(best / steps[g, :, t]), w.low, w.high)
            path -= (whole[g, :, t] * steps[g, :, t])[:, None] * own[g, t]
    return problem.result(whole)


@register
@dataclass(frozen=True)
class Gpfq(RoundLayers):
    """constant q of weights -> rounded in turn, to follow the path of the float graph's sums

    Changes: stored weights, by any number of steps.
    Source: Zhang, Zhou and Saab 2022, arXiv:2201.11113, equation 5, by products of inputs as in
            brevitas' code, in the order of their sizes.
    """

    name: ClassVar[str] = "gpfq"
    claim: ClassVar[Claim] = changes("stored weights follow the sums of the float graph")

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        return gpfq, ()
