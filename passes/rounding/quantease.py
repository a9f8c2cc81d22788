"""QuantEase: GPTQ's integers, made better one by one until none can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.rounding.base import Function
from qir.passes.rounding.descend import descend
from qir.passes.rounding.gptq import gptq_integers
from qir.passes.rounding.moments import LayerProblem
from qir.passes.rounding.round_layers import RoundLayers


def quantease(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer: coordinate descent on tr D H D' from what `gptq` gives."""
    w, moment = problem.weights, problem.tensor(problem.hessian)
    step, target = problem.tensor(problem.steps), problem.tensor(problem.target)
    whole = problem.tensor(gptq_integers(problem))
    low, high = torch.full_like(whole, w.low), torch.full_like(whole, w.high)
    return problem.result(descend(whole, target / step, step, moment, low, high).numpy())


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
