"""AdaQuant: weights, scales and biases trained for the outputs of a layer or block."""

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

# In parts of a step, and of a scale: whatever the size of the weights.
RATE, SCALE_RATE = 2e-2, 2e-3
LARGEST_CHANGE = 0.7  # of the logarithm of a scale: proofs leave room for twice and half


def rounded(x: Any) -> Any:
    """round(x) with the gradient of x (the straight-through estimator, arXiv:1308.3432)."""
    return x + (x.round() - x).detach()


def adaquant(problem: LayerProblem, steps: int) -> Mapping[str, Array]:
    """The constants of a layer: w = clamp(round(v)) * step * exp(t), v of each weight and t of each
    channel trained by Adam on tr D H D' from the float weights on. The result has the best scales
    of all steps, and the integers of that step after coordinate descent (descend).
    """
    w, moment = problem.weights, problem.tensor(problem.hessian)
    step, target = problem.tensor(problem.steps), problem.tensor(problem.target)
    v = (target / step).requires_grad_()
    t = torch.zeros(*step.shape[:2], 1, requires_grad=True)
    rates = [{"params": [v], "lr": RATE}]
    rates += [{"params": [t], "lr": SCALE_RATE}] if w.has_channel_scales else []
    optimizer = torch.optim.Adam(rates)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, integers, least, nearest = step, step, float("inf"), None
    for _ in range(steps):
        change = t.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp()
        error = rounded(v.clamp(w.low, w.high)) * step * change - target
        loss = ((error @ moment) * error).sum()
        current = float(loss.detach())
        nearest = current + TINY if nearest is None else nearest
        if current < least:
            best, integers, least = (
                change.detach(),
                v.detach().clamp(w.low, w.high).round(),
                current,
            )
        optimizer.zero_grad()
        (loss / nearest).backward()
        optimizer.step()
        falling.step()
    low, high = torch.full_like(integers, w.low), torch.full_like(integers, w.high)
    integers = descend(integers, target / (step * best), step * best, moment, low, high)
    return problem.result(integers.numpy(), best.double().numpy() if w.has_channel_scales else None)


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


# A quarter of what trains a layer: it starts from a good place, yet integers turn at half a step.
BLOCK_RATE, BLOCK_SCALE_RATE = 5e-3, 2e-4


class Moving:
    """w = clamp(round(v)) * step * exp(t), starting from the stored weights."""

    def __init__(self, layers: tuple[StoredWeights, ...]) -> None:
        self.layers, self.biases = layers, Biases(layers)
        self.step = [torch.tensor(w.step).float() for w in layers]
        self.v = [torch.tensor(w.stored).float().requires_grad_() for w in layers]
        self.t = [torch.zeros(len(w.stored), requires_grad=True) for w in layers]

    def parameters(self) -> list[dict[str, Any]]:
        scaled = [t for w, t in zip(self.layers, self.t, strict=True) if w.has_channel_scales]
        rates = [{"params": self.v, "lr": BLOCK_RATE}, *self.biases.parameters()]
        return [*rates, {"params": scaled, "lr": BLOCK_SCALE_RATE}] if scaled else rates

    def tensors(self) -> Mapping[str, Any]:
        tensors = dict(self.biases.by_name)
        for w, v, t, step in zip(self.layers, self.v, self.t, self.step, strict=True):
            change = t.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp()
            integers = rounded(v.clamp(w.low, w.high))
            tensors[w.reals] = integers * step * change.reshape(-1, *[1] * (step.ndim - 1))
        return tensors

    def penalty(self, progress: float) -> Any:
        return 0.0

    def decide(self) -> None:
        """No relaxation to harden."""

    def result(self) -> Mapping[str, Array]:
        constants = self.biases.result()
        for w, v, t in zip(self.layers, self.v, self.t, strict=True):
            integers = v.detach().clamp(w.low, w.high).round().numpy()
            constants[w.constant] = w.checked(integers.astype(w.stored.dtype))
            if w.has_channel_scales:
                change = t.detach().clamp(-LARGEST_CHANGE, LARGEST_CHANGE).double().exp().numpy()
                constants[f"{w.constant}.scale"] = w.scaled(change)
        return constants


def adaquant_block(problem: BlockProblem, steps: int) -> Mapping[str, Array]:
    """The constants of a block: weights, scales and biases, trained from where they are."""
    return train_block(problem, Moving(problem.unit.layers), steps)


@register
@dataclass(frozen=True)
class AdaQuantBlocks(RoundBlocks):
    """constants of a block, their scales and biases -> those that keep the block's outputs best

    From what is stored on: after another way to round, by layers, it has less to do.
    Changes: stored weights by any number of steps, scales by at most twice or half, biases.
    Errors: PassError for less than one step.
    Source: Hubara et al. 2020, arXiv:2006.10518; blocks: Li et al. 2021, arXiv:2102.05426.
    """

    name: ClassVar[str] = "adaquant-blocks"
    claim: ClassVar[Claim] = changes("weights, scales and biases move for the block's outputs")

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        return adaquant_block, (self.steps,)
