"""Mixed precision without a solver: weight widths in closed form, for a given average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qir.ir.errors import PassError
from qir.ir.types import Array

THETA = 1.95  # the loss falls as 2**(-THETA * bits); measured by BAQ, 2 in theory
HALVINGS = 200  # enough to separate any two doubles


def closed_form(
    losses: Mapping[str, float], average: float, parameters: Mapping[str, int] | None = None
) -> dict[str, float]:
    """The real widths of least loss with `average` bits per parameter.

        R_j = average + 1/1.95 * (log2(c_j / P_j) - sum_k P_k * log2(c_k / P_k) / sum_k P_k)

    the minimum of sum_j c_j * 2**(-1.95 * R_j) with sum_j P_j * R_j = average * sum_j P_j. With
    equal P it is BAQ's R_j = R + 1/1.95 * log2(c_j / GM(c)), GM the geometric mean; with others
    it compares losses per parameter. A unit j may be a layer, or a group of layers with their
    losses and parameters summed.

    Units: c_j the losses at one width, the same for all; P_j the parameters, 1 where not given.
    Errors: PassError if a loss is not above 0.
    Source: BAQ, arXiv:2506.05664 (its column losses); the weights P_j are this project's.
    """
    c, p = _checked(losses, parameters)
    for name, loss in losses.items():
        if loss == 0:
            raise PassError(f"allocate-bits {name}: the loss is 0, one above it is needed")
    excess = _excess(c, p)
    return dict(zip(losses, (average + excess - p @ excess / p.sum()).tolist(), strict=True))


def allocate_bits(
    losses: Mapping[str, float],
    widths: Sequence[int],
    average: float,
    parameters: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The closed form in supported widths: at most `average` bits a parameter.

    R_j is kept within the narrowest and the widest width, the level of all others moved so that
    the average holds; each goes down to a width, and what that leaves over widens units one by
    one, by the most loss per bit. A unit without loss gets the narrowest width.

    Errors: PassError if `average` is less than the narrowest width, or a loss is negative.
    Source: as closed_form; the rounding is this project's.
    """
    steps = sorted(set(widths))
    c, p = _checked(losses, parameters)
    if not steps or steps[0] < 1:
        raise PassError(f"allocate-bits: the widths are {steps}, one or more from 1 are needed")
    if not average >= steps[0]:
        raise PassError(
            f"allocate-bits: the average is {average} bits, at least {steps[0]} is needed"
        )
    budget = average * float(p.sum())
    real = _levelled(_excess(c, p), p, steps, budget)
    indices = np.searchsorted(steps, real, side="right") - 1
    _widen(indices, np.array(steps), c, p, budget)
    return dict(zip(losses, np.array(steps)[indices].tolist(), strict=True))


def _checked(
    losses: Mapping[str, float], parameters: Mapping[str, int] | None
) -> tuple[Array, Array]:
    if not losses:
        raise PassError("allocate-bits: no losses given, at least one is needed")
    sizes = dict.fromkeys(losses, 1) if parameters is None else parameters
    for name, loss in losses.items():
        if not 0 <= loss < np.inf:
            raise PassError(f"allocate-bits {name}: the loss is {loss}, 0 or more is needed")
        if sizes.get(name, 0) < 1:
            raise PassError(
                f"allocate-bits {name}: {sizes.get(name, 0)} parameters, at least 1 is needed"
            )
    each = np.array([[losses[name], sizes[name]] for name in losses], np.float64)
    return each[:, 0], each[:, 1]


def _excess(c: Array, p: Array) -> Array:
    with np.errstate(divide="ignore"):  # no loss: -inf, below any width
        return np.log2(c / p) / THETA


def _levelled(excess: Array, p: Array, steps: Sequence[int], budget: float) -> Array:
    """clip(level + excess) between the widths, with the highest level that the budget allows."""
    finite = excess[np.isfinite(excess)]
    if not finite.size:
        return np.full(excess.shape, float(steps[0]))
    low, high = steps[0] - float(finite.max()), steps[-1] - float(finite.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = p @ np.clip(middle + excess, steps[0], steps[-1]) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return np.clip(low + excess, steps[0], steps[-1])


def _widen(indices: Array, steps: Array, c: Array, p: Array, budget: float) -> None:
    """Spend the rest of the budget, in place: the unit with the largest gain per bit first."""
    while True:
        more = np.minimum(indices + 1, len(steps) - 1)
        price = p * (steps[more] - steps[indices])
        fits = (price > 0) & (p @ steps[indices] + price <= budget) & (c > 0)
        if not fits.any():
            return
        gain = c * (2.0 ** (-THETA * steps[indices]) - 2.0 ** (-THETA * steps[more]))
        best = np.argmax(np.where(fits, gain / np.maximum(price, 1), -1.0))
        indices[best] += 1
