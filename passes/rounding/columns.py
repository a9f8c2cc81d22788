"""Column by column: GPTQ's sweep, which spreads each rounding error, and coordinate descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qir.ir.types import Array

BLOCK = 64  # columns whose errors reach the columns behind them in one product


@dataclass(frozen=True)
class Spreading:
    """The order in which columns are rounded, and the compensation of each error in later columns:
    factor[k] = U_k / U_kk (K,), U the upper Cholesky factor of inverse(H), both in this order.
    """

    order: Array
    factor: Array


def spreading(hessian: Array) -> Spreading:
    """From the largest H_kk on; hessian (K, K) float64."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    return Spreading(order, upper / np.diag(upper)[:, None])


def swept(real: Any, step: Any, to: Spreading, limits: tuple[int, int]) -> Any:
    """Integers for real / step (R, K), column by column:

    q_k = clamp(half_even(w_k / step_k)); w_j -= (w_k - q_k * step_k) * U_kj / U_kk for j > k
    """
    order = torch.from_numpy(to.order)
    remainder, step = real[:, order], step[:, order]
    factor = torch.from_numpy(to.factor).to(remainder.dtype)
    integers = torch.empty_like(remainder)
    for start in range(0, len(order), BLOCK):
        end = min(start + BLOCK, len(order))
        errors = torch.empty_like(remainder[:, start:end])
        for k in range(start, end):
            integers[:, k] = (remainder[:, k] / step[:, k]).round().clamp(*limits)
            errors[:, k - start] = error = remainder[:, k] - integers[:, k] * step[:, k]
            remainder[:, k:end] -= error[:, None] * factor[k, k:end]
        remainder[:, end:] -= errors @ factor[start:end, end:]
    return integers[:, torch.from_numpy(np.argsort(to.order))]


MOST = 20  # sweeps over all columns


def descend(integers: Any, target: Any, step: Any, moment: Any, low: Any, high: Any) -> Any:
    """`integers` (G, O, K) within [low, high], improved column by column for
    tr (D H D'), D = (integers - target) * step, until a sweep over all columns changes nothing.

    Each column takes for all rows at once the best integers given the others:
    q_k - (D H)_k / (H_kk * step_k), rounded and clamped.
    Shapes: target, step as integers; moment (G, K, K) is H; all float32 tensors.
    Source: Behdin et al. 2023, arXiv:2309.01885 (QuantEase), section 3.
    """
    current = integers.clone()
    slope = ((current - target) * step) @ moment  # half the gradient
    for _ in range(MOST):
        before = current.clone()
        for k in range(current.shape[-1]):
            here = moment[:, k, k, None] * step[..., k]
            best = (current[..., k] - slope[..., k] / here).round()
            best = torch.minimum(torch.maximum(best, low[..., k]), high[..., k])
            slope += ((best - current[..., k]) * step[..., k])[..., None] * moment[:, None, k]
            current[..., k] = best
        if torch.equal(current, before):
            break
    return current
