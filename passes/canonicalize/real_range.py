"""Bounds of the reals that a value can take, from the ops that compute it."""

from __future__ import annotations

from qir.ir.op import REALS, Interval, Value
from qir.passes.infra.rewriter import Site

MAX_DEPTH = 16  # ops looked through


def real_range(at: Site, value: Value, depth: int = MAX_DEPTH) -> Interval:
    """(low, high): low <= every element <= high, whatever the inputs."""
    op = at.producer(value)
    if op is None or depth == 0:
        return REALS
    bounds = op.reals(*(REALS for _ in op.operands))
    if bounds != REALS:
        return bounds
    return op.reals(*(real_range(at, v, depth - 1) for v in op.operands))
