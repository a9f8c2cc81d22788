"""GPTQ: column by column, each rounding error made up for by the columns after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qir.ir.types import Array
from qir.passes.manager import Claim, changes, register
from qir.passes.rounding.moments import LayerProblem
from qir.passes.rounding.round_weights import Function, RoundLayers


def gptq(problem: LayerProblem) -> Mapping[str, Array]:
    """The constants of a layer: for each column k, from the largest H_kk on,

    q_k = clamp(half_even(w_k / step_k)); w_j -= (w_k - q_k * step_k) * U_kj / U_kk for j > k,
    with U the upper Cholesky factor of inverse(H), in float64. w is the float weight at first, or
    what makes up best for other inputs than the float ones (LayerProblem.target).
    """
    w = problem.weights
    hessian, steps, real = problem.hessian, problem.steps, problem.target.copy()
    whole = np.empty_like(real)
    for g, h in enumerate(hessian):
        order = np.argsort(-np.diag(h), kind="stable")
        factor = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
        left = real[g][:, order]
        for at, k in enumerate(order):
            whole[g, :, k] = np.clip(np.rint(left[:, at] / steps[g, :, k]), w.low, w.high)
            error = left[:, at] - whole[g, :, k] * steps[g, :, k]
            left[:, at:] -= np.outer(error, factor[at, at:] / factor[at, at])
    return problem.result(whole)


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
