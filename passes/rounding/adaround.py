"""AdaRound: each weight rounded up or down, as the outputs of its layer or block need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qir.ir.errors import PassError
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.quantize.stored_weights import StoredWeights
from qir.passes.rounding.base import Function
from qir.passes.rounding.by_block import Biases, BlockProblem, RoundBlocks, train_block
from qir.passes.rounding.by_layer import RoundLayers
from qir.passes.rounding.columns import descend
from qir.passes.rounding.moments import TINY, LayerProblem

LOW, HIGH = -0.1, 1.1  # the stretched sigmoid reaches 0 and 1 before its ends
FREE = 0.2  # of the steps go without penalty
BETAS = 20.0, 2.0
# The paper's rate 1e-2 is for 10,000 steps, and its penalty of 0.01 for a sum over weights; these
# gave the least errors in some hundred steps.
RATE = 3e-2
WEIGHT = 100.0  # of the penalty, beside a loss of 1 for rounding to nearest, or as stored so far


def stretched(v: Any) -> Any:
    """h = clamp(sigmoid(v) * (HIGH - LOW) + LOW, 0, 1)"""
    return (torch.sigmoid(v) * (HIGH - LOW) + LOW).clamp(0, 1)


def unstretched(h: Any) -> Any:
    """The v of each h in [0, 1]."""
    return torch.logit((h - LOW) / (HIGH - LOW))


def undecided(h: Any, progress: float) -> Any:
    """mean(1 - |2 h - 1|**beta), beta falling from 20 to 2 as `progress` goes from FREE to 1."""
    if progress < FREE:
        return 0.0
    beta = BETAS[0] + (BETAS[1] - BETAS[0]) * (progress - FREE) / (1 - FREE)
    return (1 - (2 * h - 1).abs() ** beta).mean()


def adaround(problem: LayerProblem, steps: int) -> Mapping[str, Array]:
    """The constants of a layer: w = (floor(t) + h) * step for the best real weights t * step.

    h is trained by Adam on tr D H D', relative to its value for t rounded to nearest; then
    coordinate descent (descend).
    """
    w, step, moment = (
        problem.weights,
        problem.tensor(problem.steps),
        problem.tensor(problem.hessian),
    )
    target = problem.tensor(problem.target / problem.steps)
    floor = target.floor().clamp(w.low, w.high - 1)
    fraction = target - floor  # beyond [0, 1] where the scale clips

    def loss(up: Any) -> Any:
        error = (up - fraction) * step
        return ((error @ moment) * error).sum()

    nearest = loss(fraction.clamp(0, 1).round()) + TINY
    v = unstretched(fraction.clamp(0, 1)).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for number in range(steps):
        up = stretched(v)
        total = loss(up) / nearest + WEIGHT * undecided(up, number / steps)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        falling.step()
    integers = floor + stretched(v.detach()).round()
    return problem.result(descend(integers, target, step, moment, floor, floor + 1).numpy())


@register
@dataclass(frozen=True)
class AdaRound(RoundLayers):
    """constant q of weights -> floor(w / scale) or ceil(w / scale), element by element

    Minimizes the distance of each layer's outputs from the float graph's, before the activation
    function, so that the second moments of its inputs suffice and a step is cheap.
    Changes: stored weights.
    Errors: PassError for less than one step.
    Source: Nagel et al. 2020, arXiv:2004.10568, equations 21 to 24; the descent after it: Behdin et
            al. 2023, arXiv:2309.01885.
    """

    name: ClassVar[str] = "adaround"
    claim: ClassVar[Claim] = changes("each stored weight goes up or down for the layer's outputs")

    steps: int = 500

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        if self.steps < 1:
            raise PassError(f"{self.name}: steps is {self.steps}, 1 or more is needed")
        return adaround, (self.steps,)


FIRST = 0.7  # h of weights that go up so far; 1 - FIRST of the others


class SoftRounding:
    """w = (low + h) * step, h in [0, 1] of each weight; the stored integer is low or low + 1."""

    def __init__(self, layers: tuple[StoredWeights, ...]) -> None:
        self.layers, self.biases = layers, Biases(layers)
        self.low, self.step, self.v = list[Any](), list[Any](), list[Any]()
        for w in layers:
            stored, target = torch.tensor(w.stored).float(), torch.tensor(w.floats / w.step)
            is_up = ((stored > target) | (stored == w.high)) & (stored > w.low)
            self.low.append(stored - is_up.float())
            self.step.append(torch.tensor(w.step).float())
            first = torch.where(is_up, FIRST, 1 - FIRST)
            self.v.append(unstretched(first).requires_grad_())
        self.decided: list[Any] = []

    def parameters(self) -> list[dict[str, Any]]:
        return [{"params": self.v, "lr": RATE}, *self.biases.parameters()]

    def up(self) -> list[Any]:
        return self.decided or [stretched(v) for v in self.v]

    def tensors(self) -> Mapping[str, Any]:
        parts = zip(self.layers, self.low, self.up(), self.step, strict=True)
        return {w.reals: (low + h) * step for w, low, h, step in parts} | self.biases.by_name

    def penalty(self, progress: float) -> Any:
        return WEIGHT * sum(undecided(h, progress) for h in self.up())

    def decide(self) -> None:
        self.decided = [h.detach().round() for h in self.up()]

    def result(self) -> Mapping[str, Array]:
        integers = [(low + h).numpy() for low, h in zip(self.low, self.up(), strict=True)]
        pairs = zip(self.layers, integers, strict=True)
        constants = {w.constant: w.checked(q.astype(w.stored.dtype)) for w, q in pairs}
        return constants | self.biases.result()


def adaround_block(problem: BlockProblem, steps: int) -> Mapping[str, Array]:
    """The constants of a block, each weight one up or down from where it is, or as it is."""
    return train_block(problem, SoftRounding(problem.unit.layers), steps)


@register
@dataclass(frozen=True)
class AdaRoundBlocks(RoundBlocks):
    """constants of a block -> each stored weight as it is or a step over the float one

    From what is stored on: after another way to round, by layers, it has less to do.
    Changes: stored weights and biases.
    Errors: PassError for less than one step.
    Source: Nagel et al. 2020, arXiv:2004.10568; blocks: Li et al. 2021, arXiv:2102.05426.
    """

    name: ClassVar[str] = "adaround-blocks"
    claim: ClassVar[Claim] = changes("each stored weight goes up or down for the block's outputs")

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        return adaround_block, (self.steps,)
