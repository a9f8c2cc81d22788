"""Values as polynomials in another value: how formulas are matched in any way of writing them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Div, Mul, Neg, Pow, Sub
from qir.passes.infra.constants import uniform
from qir.passes.infra.rewriter import Site

CLOSE = 1e-5  # relative: how far a constant may be off the one a formula has
MAX_DEGREE = 4
LINES = (Add, Sub, Mul, Div, Neg)


def is_close(actual: float | None, expected: float) -> bool:
    return actual is not None and math.isclose(actual, expected, rel_tol=CLOSE, abs_tol=1e-12)


def polynomial(at: Site, value: Value, x: Value, depth: int = 8) -> tuple[float, ...] | None:
    """Coefficients (of 1, x, x**2, ...) of `value` as a polynomial in `x`; None when it is not
    one.
    """
    if value == x:
        return (0.0, 1.0)
    if (c := uniform(at, value)) is not None:
        return (c,)
    op = at.producer(value)
    if depth == 0 or not isinstance(op, (Add, Sub, Mul, Div, Neg, Pow)):
        return None
    parts = [polynomial(at, v, x, depth - 1) for v in op.operands]
    polynomials = [p for p in parts if p is not None]
    if len(polynomials) != len(parts) or op.result.type.shape != x.type.shape:
        return None
    return _combined(op, polynomials)


def line(at: Site, value: Value) -> tuple[Value, tuple[float, float]]:
    """(x, (b, a)) with value = a * x + b, x as far up as that holds."""
    x, b, a = value, 0.0, 1.0
    while True:
        op = at.producer(x)
        for inner in op.operands if isinstance(op, LINES) else ():
            coefficients = polynomial(at, x, inner, depth=1)
            if (
                coefficients is not None
                and len(coefficients) == 2
                and uniform(at, inner) is None
                and coefficients[1]
            ):
                x, b, a = inner, b + a * coefficients[0], a * coefficients[1]
                break
        else:
            return x, (b, a)


def _combined(op: Op, parts: Sequence[tuple[float, ...]]) -> tuple[float, ...] | None:
    match op:
        case Add():
            return _sum(parts[0], parts[1], 1.0)
        case Sub():
            return _sum(parts[0], parts[1], -1.0)
        case Mul():
            return _product(parts[0], parts[1])
        case Neg():
            return tuple(-c for c in parts[0])
        case Div() if len(parts[1]) == 1 and parts[1][0] != 0:
            return tuple(c / parts[1][0] for c in parts[0])
        case Pow() if len(parts[1]) == 1 and parts[1][0] in range(1, MAX_DEGREE + 1):
            power: tuple[float, ...] | None = (1.0,)
            for _ in range(int(parts[1][0])):
                power = None if power is None else _product(power, parts[0])
            return power
        case _:
            return None


def _sum(p: tuple[float, ...], q: tuple[float, ...], sign: float) -> tuple[float, ...]:
    size = max(len(p), len(q))
    wide = [(*r, *[0.0] * (size - len(r))) for r in (p, q)]
    return tuple(a + sign * b for a, b in zip(*wide, strict=True))


def _product(p: tuple[float, ...], q: tuple[float, ...]) -> tuple[float, ...] | None:
    if len(p) + len(q) - 2 > MAX_DEGREE:
        return None
    return tuple(float(c) for c in np.convolve(p, q))


def matches(actual: tuple[float, ...] | None, expected: Sequence[float]) -> bool:
    """Whether coefficients are those of a formula, within CLOSE."""
    if actual is None:
        return False
    size = max(len(actual), len(expected))
    pad = [(*r, *[0.0] * (size - len(r))) for r in (tuple(actual), tuple(expected))]
    return all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-9) for a, b in zip(*pad, strict=True))
