"""Coordinate descent over stored integers: the last word after any relaxation."""

from __future__ import annotations

from typing import Any

import torch

MOST = 20  # sweeps over all columns


def descend(whole: Any, wish: Any, step: Any, moment: Any, low: Any, high: Any) -> Any:
    """Integers `whole` (G, O, K) within [low, high], made better column by column for
    tr (D H D'), D = (whole - wish) * step, until a sweep over all columns changes nothing.

    Each column takes for all rows at once the best integers given the others:
    q_k - (D H)_k / (H_kk * step_k), rounded and clamped.
    Shapes: wish, step as whole; moment (G, K, K) is H; all float32 tensors.
    Source: Behdin et al. 2023, arXiv:2309.01885 (QuantEase), section 3.
    """
    now = whole.clone()
    slope = ((now - wish) * step) @ moment  # half the gradient
    for _ in range(MOST):
        before = now.clone()
        for k in range(now.shape[-1]):
            here = moment[:, k, k, None] * step[..., k]
            best = (now[..., k] - slope[..., k] / here).round()
            best = torch.minimum(torch.maximum(best, low[..., k]), high[..., k])
            slope += ((best - now[..., k]) * step[..., k])[..., None] * moment[:, None, k]
            now[..., k] = best
        if torch.equal(now, before):
            break
    return now
