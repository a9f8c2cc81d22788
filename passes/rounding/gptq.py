"""GPTQ: column by column, each rounding error made up for by the columns after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from qir.ir.types import Array
from qir.passes.infra.manager import Claim, changes, register
from qir.passes.rounding.base import Function
from qir.passes.rounding.moments import LayerProblem
from qir.passes.rounding.round_layers import RoundLayers
from qir.passes.rounding.sweep import spreading, swept


def gptq(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer, rounded by `swept`. w is the float weight at first, or what makes
    up best for other inputs than the float ones (LayerProblem.target).
    """
    return problem.result(gptq_integers(problem))


def gptq_integers(problem: LayerProblem) -> Array:
    """(G, O / G, K) float64."""
    w, hessian = problem.weights, problem.hessian
    real, steps = torch.from_numpy(problem.target), torch.from_numpy(problem.steps.copy())
    parts = zip(real, steps, hessian, strict=True)
    whole = torch.stack([swept(r, s, spreading(h), (w.low, w.high)) for r, s, h in parts])
    return np.asarray(whole.numpy())


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
