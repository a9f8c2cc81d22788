"""Views of operands for rules: constants, uniform and per-channel constants, polynomials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Div, Mul, Neg, Pow, Sub
from qir.ir.types import Array
from qir.passes.canonicalize.layout.permutations import is_elementwise
from qir.passes.infra.rewriter import Site

CLOSE = 1e-5  # relative: how far a constant may be off the one a formula has
MAX_DEGREE = 4
LINES = (Add, Sub, Mul, Div, Neg)


def real_constant(at: Site, value: Value | None) -> Array | None:
    """The elements of a float constant as float64; None for anything else."""
    found = at.constant(value)
    if found is None or value is None or not value.type.is_float:
        return None
    return np.asarray(found, np.float64)


def uniform(at: Site, value: Value | None) -> float | None:
    """The number that a float constant holds everywhere; None for anything else."""
    found = real_constant(at, value)
    if found is None or not found.size or np.any(found != found.flat[0]):
        return None
    return float(found.flat[0])


def is_close(found: float | None, wanted: float) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=CLOSE, abs_tol=1e-12)


def per_channel(constant: Array, channels: int) -> Array | None:
    """A constant that depends on the last axis alone, as () or (channels,); None when on others
    too.
    """
    if constant.size == 0:
        return None
    if np.all(constant == constant.flat[0]):
        return np.asarray(constant.flat[0])
    if constant.size == channels == constant.shape[-1]:
        return constant.reshape(channels)
    return None


def split_constant(at: Site, op: Op) -> tuple[Value, Array, bool] | None:
    """(x, c, whether x is first) of an op of x and a float constant c that leaves x's shape
    alone.
    """
    if len(op.operands) != 2:
        return None
    for x, c, first in ((*op.operands, True), (*op.operands[::-1], False)):
        found = real_constant(at, c)
        if found is not None and x.type == op.result.type and real_constant(at, x) is None:
            return x, found, first
    return None


def channel_constant(array: Array, like: Value) -> Constant:
    """`array` as a constant in the element type of `like`, a single number if it is uniform."""
    if array.size and np.all(array == array.flat[0]):
        array = np.asarray(array.flat[0])
    return Constant.of(array, like.type.elem)


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
    known = [p for p in parts if p is not None]
    if len(known) != len(parts) or op.result.type.shape != x.type.shape:
        return None
    return _combined(op, known)


def line(at: Site, value: Value) -> tuple[Value, tuple[float, float]]:
    """(x, (b, a)) with value = a * x + b, x as far up as that holds."""
    x, b, a = value, 0.0, 1.0
    while True:
        op = at.producer(x)
        for inner in op.operands if isinstance(op, LINES) else ():
            found = polynomial(at, x, inner, depth=1)
            if found is not None and len(found) == 2 and uniform(at, inner) is None and found[1]:
                x, b, a = inner, b + a * found[0], a * found[1]
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


def matches(found: tuple[float, ...] | None, wanted: Sequence[float]) -> bool:
    """Whether coefficients are those of a formula, within CLOSE."""
    if found is None:
        return False
    size = max(len(found), len(wanted))
    pad = [(*r, *[0.0] * (size - len(r))) for r in (tuple(found), tuple(wanted))]
    return all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-9) for a, b in zip(*pad, strict=True))


def up_the_chain(at: Site, value: Value) -> tuple[list[Op], Op | None]:
    """Elementwise ops that nothing else reads, from `value` up, and the op before them."""
    chain: list[Op] = []
    while is_elementwise(op := at.producer(value)) and at.uses(value) == 1:
        assert op is not None
        chain.append(op)
        value = op.operands[0]
    return chain, op
