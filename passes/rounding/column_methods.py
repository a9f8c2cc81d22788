"""Methods that round column by column: GPTQ, GPFQ, QuantEase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.rounding.base import Function
from qir.passes.rounding.by_layer import RoundLayers
from qir.passes.rounding.columns import descend, spreading, swept
from qir.passes.rounding.moments import TINY, LayerProblem


def gptq(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer, rounded by `swept`. w is the float weight, or the weight that best
    compensates for the error of the inputs (LayerProblem.target).
    """
    return problem.result(gptq_integers(problem))


def gptq_integers(problem: LayerProblem) -> Array:
    """(G, O / G, K) float64."""
    w, hessian = problem.weights, problem.hessian
    real, steps = torch.from_numpy(problem.target), torch.from_numpy(problem.steps.copy())
    parts = zip(real, steps, hessian, strict=True)
    integers = torch.stack([swept(r, s, spreading(h), (w.low, w.high)) for r, s, h in parts])
    return np.asarray(integers.numpy())


@register
@dataclass(frozen=True)
class Gptq(RoundLayers):
    """constant q of weights -> rounded in turn, with each error spread over the weights to come

    Changes: stored weights, by any number of steps.
    Source: Frantar et al. 2022, arXiv:2210.17323, equations 2 and 3 and section 3.3, step 3; in the
            order of H's diagonal as its authors' code has it.
    """

    name: ClassVar[str] = "gptq"
    claim: ClassVar[Claim] = changes("stored weights make up for each other's rounding errors")

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        return gptq, ()


def gpfq(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer, with H = sum xq xq', for each column t:

    q_t = clamp(half_even((sum_(j <= t) H_jt T_j - sum_(j < t) H_jt q_j step_j) / (H_tt step_t))),
    the best integer for the part of the outputs that columns up to t bring; in float64, from the
    largest H_tt on. A column that is always 0 is rounded to nearest.
    """
    w, moment, steps = problem.weights, problem.own, problem.steps
    target = problem.target
    integers = np.empty_like(target)
    for g in range(len(moment)):
        path = np.zeros_like(target[g])  # sum_j H_jt (T_j - q_j step_j) so far, for every t
        for t in np.argsort(-np.diag(moment[g]), kind="stable"):
            path += target[g, :, t, None] * moment[g, t]
            dead = moment[g, t, t] <= TINY
            best = target[g, :, t] if dead else path[:, t] / moment[g, t, t]
            integers[g, :, t] = np.clip(np.rint(best / steps[g, :, t]), w.low, w.high)
            path -= (integers[g, :, t] * steps[g, :, t])[:, None] * moment[g, t]
    return problem.result(integers)


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


def quantease(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer: coordinate descent on tr D H D', starting from `gptq`."""
    w, moment = problem.weights, problem.tensor(problem.hessian)
    step, target = problem.tensor(problem.steps), problem.tensor(problem.target)
    integers = problem.tensor(gptq_integers(problem))
    low, high = torch.full_like(integers, w.low), torch.full_like(integers, w.high)
    return problem.result(descend(integers, target / step, step, moment, low, high).numpy())


@register
@dataclass(frozen=True)
class QuantEase(RoundLayers):
    """constant q of weights -> GPTQ's, each then the best one given the others, until none changes

    Changes: stored weights, by any number of steps.
    Source: Behdin et al. 2023, arXiv:2309.01885, section 3, started as in its section 5 from GPTQ.
    """

    name: ClassVar[str] = "quantease"
    claim: ClassVar[Claim] = changes("stored weights are the best ones, each given the others")

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        return quantease, ()
