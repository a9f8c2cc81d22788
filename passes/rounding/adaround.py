"""AdaRound: each weight goes up or down, as is best for the outputs of its layer or block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qir.ir.types import Array
from qir.passes.manager import Claim, Miss, changes, register
from qir.passes.rounding.reconstruct import Problem, reconstruct
from qir.passes.rounding.round_weights import Function, RoundWeights
from qir.passes.rounding.stored_weights import StoredWeights
from qir.passes.rounding.units import Unit, block_units, layer_units

LOW, HIGH = -0.1, 1.1  # the stretched sigmoid reaches 0 and 1 before its ends
import os
RATE = float(os.environ.get('LR','3e-2'))
WEIGHT = float(os.environ.get('LAM','1'))  # of the penalty
FREE = 0.2  # of the steps go without penalty
BETAS = 20.0, 2.0


class SoftRounding:
    """w = clamp(floor(wanted / step) + h) * step, h in [0, 1] learned for each weight."""

    def __init__(self, layers: tuple[StoredWeights, ...]) -> None:
        self.layers = layers
        self.floor, self.step, self.v = [], [], []
        for w in layers:
            x = torch.from_numpy(w.wanted / w.step).clamp(w.low, w.high)
            self.floor.append(x.floor().float())
            part = ((x - x.floor()).float() - LOW) / (HIGH - LOW)
            self.v.append(torch.logit(part).requires_grad_())
            self.step.append(torch.from_numpy(w.step).float())

    def parameters(self) -> list[dict[str, Any]]:
        return [{"params": self.v, "lr": RATE}]

    def up(self) -> list[Any]:
        return [(torch.sigmoid(v) * (HIGH - LOW) + LOW).clamp(0, 1) for v in self.v]

    def given(self) -> Mapping[str, Any]:
        parts = zip(self.layers, self.floor, self.up(), self.step, strict=True)
        return {w.reals: (low + h).clamp(w.low, w.high) * step for w, low, h, step in parts}

    def penalty(self, done: float) -> Any:
        if done < FREE:
            return 0.0
        left = 1 - (done - FREE) / (1 - FREE)
        beta = BETAS[1] + (BETAS[0] - BETAS[1]) * left
        return WEIGHT * sum((1 - (2 * h - 1).abs() ** beta).mean() for h in self.up())

    def result(self) -> Mapping[str, Array]:
        found = {}
        for w, low, h in zip(self.layers, self.floor, self.up(), strict=True):
            whole = (low + (h >= 0.5)).clamp(w.low, w.high)
            found[w.constant] = w.checked(whole.detach().numpy().astype(w.stored.dtype))
        return found


def adaround(problem: Problem, steps: int) -> Mapping[str, Array]:
    return reconstruct(problem, SoftRounding(problem.unit.layers), steps)


@register
@dataclass(frozen=True)
class AdaRound(RoundWeights):
    """constant q of weights -> floor(w / scale) or ceil(w / scale), element by element"""

    name: ClassVar[str] = "adaround"
    claim: ClassVar[Claim] = changes("stored weights, by less than a step from the float ones")

    blocks: bool = False
    steps: int = 1000

    def units(self, graph, reference, misses):
        return (block_units if self.blocks else layer_units)(graph, reference, misses)

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        return adaround, (self.steps,)
