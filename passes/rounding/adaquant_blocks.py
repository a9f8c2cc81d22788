"""AdaQuant for whole blocks: what a residual block gives, after all that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.quantize.stored_weights import StoredWeights
from qir.passes.rounding.adaquant import LARGEST_CHANGE, rounded
from qir.passes.rounding.base import Function
from qir.passes.rounding.round_blocks import Biases, RoundBlocks
from qir.passes.rounding.train_block import BlockProblem, train_block

# A quarter of what trains a layer: it starts from a good place, yet integers turn at half a step.
RATE, SCALE_RATE = 5e-3, 2e-4


class Moving:
    """w = clamp(round(v)) * step * exp(t), from what is stored so far."""

    def __init__(self, layers: tuple[StoredWeights, ...]) -> None:
        self.layers, self.biases = layers, Biases(layers)
        self.step = [torch.tensor(w.step).float() for w in layers]
        self.v = [torch.tensor(w.stored).float().requires_grad_() for w in layers]
        self.t = [torch.zeros(len(w.stored), requires_grad=True) for w in layers]

    def parameters(self) -> list[dict[str, Any]]:
        scaled = [t for w, t in zip(self.layers, self.t, strict=True) if w.has_channel_scales]
        rates = [{"params": self.v, "lr": RATE}, *self.biases.parameters()]
        return [*rates, {"params": scaled, "lr": SCALE_RATE}] if scaled else rates

    def given(self) -> Mapping[str, Any]:
        found = dict(self.biases.by_name)
        for w, v, t, step in zip(self.layers, self.v, self.t, self.step, strict=True):
            change = t.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp()
            whole = rounded(v.clamp(w.low, w.high))
            found[w.reals] = whole * step * change.reshape(-1, *[1] * (step.ndim - 1))
        return found

    def penalty(self, done: float) -> Any:
        return 0.0

    def decide(self) -> None:
        """Nothing is soft here."""

    def result(self) -> Mapping[str, Array]:
        found = self.biases.result()
        for w, v, t in zip(self.layers, self.v, self.t, strict=True):
            whole = v.detach().clamp(w.low, w.high).round().numpy()
            found[w.constant] = w.checked(whole.astype(w.stored.dtype))
            if w.has_channel_scales:
                change = t.detach().clamp(-LARGEST_CHANGE, LARGEST_CHANGE).double().exp().numpy()
                found[f"{w.constant}.scale"] = w.scaled(change)
        return found


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
