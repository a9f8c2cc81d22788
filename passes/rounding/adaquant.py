"""AdaQuant: weights, scales and biases move so that the outputs of a layer stay where they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qir.ir.errors import PassError
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.rounding.base import Function
from qir.passes.rounding.descend import descend
from qir.passes.rounding.moments import TINY, LayerProblem
from qir.passes.rounding.round_layers import RoundLayers

# In parts of a step, and of a scale: whatever the size of the weights.
RATE, SCALE_RATE = 2e-2, 2e-3
LARGEST_CHANGE = 0.7  # of the logarithm of a scale: proofs leave room for twice and half


def rounded(x: Any) -> Any:
    """round(x) with the gradient of x (the straight-through estimator, arXiv:1308.3432)."""
    return x + (x.round() - x).detach()


def adaquant(problem: LayerProblem, steps: int) -> Mapping[str, Array]:
    """The constants of a layer: w = clamp(round(v)) * step * exp(t), v of each weight and t of each
    channel trained by Adam on tr D H D' from the float weights on. The best scales of all steps are
    kept, and for them the integers of that step, made better one by one (descend).
    """
    w, moment = problem.weights, problem.tensor(problem.hessian)
    step, target = problem.tensor(problem.steps), problem.tensor(problem.target)
    v = (target / step).requires_grad_()
    t = torch.zeros(*step.shape[:2], 1, requires_grad=True)
    rates = [{"params": [v], "lr": RATE}]
    rates += [{"params": [t], "lr": SCALE_RATE}] if w.has_channel_scales else []
    optimizer = torch.optim.Adam(rates)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, whole, least, nearest = step, step, float("inf"), None
    for _ in range(steps):
        change = t.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp()
        error = rounded(v.clamp(w.low, w.high)) * step * change - target
        loss = ((error @ moment) * error).sum()
        now = float(loss.detach())
        nearest = now + TINY if nearest is None else nearest
        if now < least:
            best, whole, least = change.detach(), v.detach().clamp(w.low, w.high).round(), now
        optimizer.zero_grad()
        (loss / nearest).backward()
        optimizer.step()
        falling.step()
    low, high = torch.full_like(whole, w.low), torch.full_like(whole, w.high)
    whole = descend(whole, target / (step * best), step * best, moment, low, high)
    return problem.result(whole.numpy(), best.double().numpy() if w.has_channel_scales else None)


@register
@dataclass(frozen=True)
class AdaQuant(RoundLayers):
    """constant q of weights, its scales and the bias -> those that keep the layer's outputs best

    Changes: stored weights by any number of steps, scales by at most twice or half, biases.
    Errors: PassError for less than one step.
    Source: Hubara et al. 2020, arXiv:2006.10518, section 3.1; scales of activations stay as they
            were calibrated, rates are in parts of a step.
    """

    name: ClassVar[str] = "adaquant"
    claim: ClassVar[Claim] = changes("weights, scales and biases move for the layer's outputs")

    steps: int = 500

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        if self.steps < 1:
            raise PassError(f"{self.name}: steps is {self.steps}, 1 or more is needed")
        return adaquant, (self.steps,)
