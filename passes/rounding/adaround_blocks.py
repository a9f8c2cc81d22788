"""AdaRound for whole blocks: what a residual block gives, after all that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.quantize.stored_weights import StoredWeights
from qir.passes.rounding.adaround import stretched, undecided, unstretched
from qir.passes.rounding.base import Function
from qir.passes.rounding.round_blocks import Biases, RoundBlocks
from qir.passes.rounding.train_block import BlockProblem, train_block

FIRST = 0.7  # h of weights that go up so far; 1 - FIRST of the others
RATE = 3e-2
WEIGHT = 100.0  # of the penalty, beside a loss of 1 for what is stored so far


class SoftRounding:
    """w = (low + h) * step, h in [0, 1] of each weight; low or low + 1 is what is stored so far."""

    def __init__(self, layers: tuple[StoredWeights, ...]) -> None:
        self.layers, self.biases = layers, Biases(layers)
        self.low, self.step, self.v = list[Any](), list[Any](), list[Any]()
        for w in layers:
            stored, wish = torch.tensor(w.stored).float(), torch.tensor(w.wanted / w.step)
            is_up = ((stored > wish) | (stored == w.high)) & (stored > w.low)
            self.low.append(stored - is_up.float())
            self.step.append(torch.tensor(w.step).float())
            first = torch.where(is_up, FIRST, 1 - FIRST)
            self.v.append(unstretched(first).requires_grad_())
        self.decided: list[Any] = []

    def parameters(self) -> list[dict[str, Any]]:
        return [{"params": self.v, "lr": RATE}, *self.biases.parameters()]

    def up(self) -> list[Any]:
        return self.decided or [stretched(v) for v in self.v]

    def given(self) -> Mapping[str, Any]:
        parts = zip(self.layers, self.low, self.up(), self.step, strict=True)
        return {w.reals: (low + h) * step for w, low, h, step in parts} | self.biases.by_name

    def penalty(self, done: float) -> Any:
        return WEIGHT * sum(undecided(h, done) for h in self.up())

    def decide(self) -> None:
        self.decided = [h.detach().round() for h in self.up()]

    def result(self) -> Mapping[str, Array]:
        whole = [(low + h).numpy() for low, h in zip(self.low, self.up(), strict=True)]
        pairs = zip(self.layers, whole, strict=True)
        found = {w.constant: w.checked(q.astype(w.stored.dtype)) for w, q in pairs}
        return found | self.biases.result()


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
