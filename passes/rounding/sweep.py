"""Column by column, each rounding error spread over the columns after it: GPTQ's inner loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qir.ir.types import Array

BLOCK = 64  # columns whose errors reach the columns behind them in one product


@dataclass(frozen=True)
class Spreading:
    """The order in which columns are rounded, and what each one's error adds to those behind it:
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
    left, step = real[:, order], step[:, order]
    factor = torch.from_numpy(to.factor).to(left.dtype)
    whole = torch.empty_like(left)
    for start in range(0, len(order), BLOCK):
        end = min(start + BLOCK, len(order))
        errors = torch.empty_like(left[:, start:end])
        for k in range(start, end):
            whole[:, k] = (left[:, k] / step[:, k]).round().clamp(*limits)
            errors[:, k - start] = error = left[:, k] - whole[:, k] * step[:, k]
            left[:, k:end] -= error[:, None] * factor[k, k:end]
        left[:, end:] -= errors @ factor[start:end, end:]
    return whole[:, torch.from_numpy(np.argsort(to.order))]
