"""Between which reals a value matters to what reads it: beyond them no result changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qir.ir.graph import Graph
from qir.ir.op import Interval, Op, Value
from qir.ir.ops import Add, Constant, Div, Maximum, Minimum, Mul, Softmax, Sub
from qir.ir.ops.kinds import Selection
from qir.ir.ops.unary import Unary
from qir.ir.torch_executor import run_op
from qir.ir.types import Array
from qir.passes.calibrate.observers import Observation

EVERYWHERE = (-np.inf, np.inf)
SLIGHT = 2.0**-10  # of a result's greatest size: a quarter of a step of 8 bits
SHARE = 1 / 32  # of what was seen: where less is flat, nothing is clamped
POINTS = 4097  # at which a function is looked at
COARSE = 2.0**-4  # a step between points over which a function may bend unseen


def limits(graph: Graph, observations: Mapping[str, Observation]) -> Mapping[str, Interval]:
    """The interval of each value, constants too, to which it can be clamped: the results of all its
    readers change by no more than SLIGHT of their greatest size on what was seen.

    A saturating function ends where it does; a softmax SLIGHT / C below the least of its rows'
    maxima, in logarithms, for rows of C; sums, products with constants and moves hand on what their
    results need. So a mask of -1e4 or -3e38 takes no part of a range.
    """
    every: dict[str, Interval] = dict.fromkeys((v.name for v in graph.outputs), EVERYWHERE)
    reals = Reals(graph, observations)
    for op in reversed(graph.ops):
        result = every.get(op.names[0], EVERYWHERE)
        for i, v in enumerate(op.operands):
            low, high = _relevant_range(op, i, result, reals)
            before = every.get(v.name, (low, high))
            every[v.name] = min(before[0], low), max(before[1], high)
    return {name: ends for name, ends in every.items() if ends != EVERYWHERE}


class Reals:
    """What values reach: constants as they are, others as they were seen."""

    def __init__(self, graph: Graph, observations: Mapping[str, Observation]) -> None:
        self.observations = observations
        self._constants = {op.names[0]: op for op in graph.ops if isinstance(op, Constant)}

    def constant(self, value: Value) -> Interval | None:
        op = self._constants.get(value.name)
        if op is None or not value.type.is_float or not value.type.size:
            return None
        return float(op.value.array.min()), float(op.value.array.max())

    def of(self, value: Value) -> Interval:
        if (ends := self.constant(value)) is not None:
            return ends
        one = self.observations.get(value.name)
        return EVERYWHERE if one is None else (one.low, one.high)


def _relevant_range(op: Op, place: int, result: Interval, reals: Reals) -> Interval:
    """Where the operand at this place matters, if the result does within `result`."""
    match op:
        case Softmax():
            observation = reals.observations.get(op.x.name)
            if observation is None or not np.isfinite(observation.least_top):
                return EVERYWHERE
            return observation.least_top + float(np.log(SLIGHT / op.x.type.shape[-1])), np.inf
        case Unary():
            return _saturation(op, reals.of(op.x), result)
        case Selection() | Maximum() | Minimum():
            return result  # max(clamp(a), clamp(b)) = clamp(max(a, b))
        case Add() | Sub():
            return _of_term(op, place, result, reals)
        case Mul() | Div():
            return _of_factor(op, place, result, reals)
        case _:
            return EVERYWHERE


def _of_term(op: Add | Sub, place: int, result: Interval, reals: Reals) -> Interval:
    """a + b <= low wherever a <= low - max(b), so that there a need not be told apart."""
    low, high = reals.of(op.operands[1 - place])
    if isinstance(op, Add):
        return result[0] - high, result[1] - low
    if place == 0:
        return result[0] + low, result[1] + high
    return low - result[1], high - result[0]


def _of_factor(op: Mul | Div, place: int, result: Interval, reals: Reals) -> Interval:
    other = reals.constant(op.operands[1 - place])
    if other is None or other[0] * other[1] <= 0 or (isinstance(op, Div) and place == 1):
        return EVERYWHERE
    factors = other if isinstance(op, Mul) else (1 / other[0], 1 / other[1])
    ends = sorted(result) if factors[0] > 0 else sorted(result, reverse=True)
    return min(ends[0] / f for f in factors), max(ends[1] / f for f in factors)


def _saturation(op: Unary, ends: Interval, result: Interval) -> Interval:
    """Where the function, clamped to `result`, still changes on what was seen of its operand."""
    if not np.isfinite(ends).all() or ends[0] == ends[1]:
        return EVERYWHERE
    x = _points(*ends)
    y = np.clip(run_op(op, [x]), *result)
    if not np.isfinite(y).all():
        return EVERYWHERE
    slight = SLIGHT * float(np.abs(y).max())
    low, high = _flat_end(x, y, slight), _flat_end(x[::-1], y[::-1], slight)
    low, high = (-np.inf if low is None else low), (np.inf if high is None else high)
    return (low, high) if low < high else EVERYWHERE


def _points(low: float, high: float) -> Array:
    """Points between the ends, evenly spaced; where that is coarse, as with a mask of -1e9, with
    others that lie closer towards 0, where functions bend.
    """
    even = np.linspace(low, high, POINTS)
    step = (high - low) / (POINTS - 1)
    if step <= COARSE:
        return even
    near = np.geomspace(COARSE, max(-low, high), POINTS)
    near = np.concatenate([-near, near])
    return np.union1d(even, near[(near > low) & (near < high)])


def _flat_end(x: Array, y: Array, slight: float) -> float | None:
    """The last x up to which y stays within `slight`; None for less than a SHARE of all."""
    spread = np.maximum.accumulate(y) - np.minimum.accumulate(y)
    last = float(x[np.flatnonzero(spread <= slight)[-1]])
    return last if abs(last - x[0]) > SHARE * abs(x[-1] - x[0]) else None
