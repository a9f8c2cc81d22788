"""Scores of attention: the product of queries and keys, their scale, and their masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Div, MatMul, Maximum, Mul, Reshape, Sub
from qir.ir.ops.sequence.attention import visible_keys
from qir.ir.types import U1, Array
from qir.passes.canonicalize.recognize.places import factor_of, reshaped
from qir.passes.canonicalize.recognize.switches import HIDES, visible
from qir.passes.infra.constants import real_constant, split_constant, uniform
from qir.passes.infra.manager import Miss
from qir.passes.infra.rewriter import Site

MAX_MASKS = 3  # of the run, added one after another


@dataclass(frozen=True)
class Masks:
    """Operands (bias, visible, start) and facts (causal, window) of an attention."""

    operands: tuple[Value | None, Value | None, Value | None]
    facts: tuple[bool, int]


@dataclass(frozen=True)
class Scores:
    """q @ k times `scale`, plus `addend` constants of the product's shape, plus values of the run.

    may_hide_rows: a query that sees no key gives 0.
    """

    q: Value
    k: Value
    scale: float
    may_hide_rows: bool
    addend: Array = field(default_factory=lambda: np.zeros(()))
    biases: tuple[tuple[Value, float], ...] = ()

    def masks(
        self, at: Site, shape: tuple[int, int, int, int], lead: tuple[int, ...]
    ) -> Masks | Miss:
        """As attention takes them, for scores of `shape` (B, heads, N, M)."""
        n, m = shape[2:]
        every = np.broadcast_to(self.addend, (*lead, n, m)).reshape(shape)
        hidden = every <= HIDES
        if not self.may_hide_rows and hidden.all(-1).any():
            return Miss("a constant mask hides all keys from a query")
        biases, see = self.biases, None
        visibility = visible(at, *biases[0], hidden, lead) if len(biases) == 1 else None
        if visibility is not None and shape_of_mask(visibility[1]) is not None:
            (see, hidden), biases = visibility, ()
        if (facts := shape_of_mask(hidden)) is None:
            see = at.emit(Constant.of(narrowed(~hidden), U1))
        is_causal = facts is not None and facts[0]
        finite = narrowed(of_keys(every, hidden) if is_causal else np.where(hidden, 0, every))
        bias = at.emit(Constant.of(finite.astype(np.float32))) if finite.any() else None
        for value, scale in biases:
            part = spread(at, value, lead, shape)
            if isinstance(part, Miss):
                return part
            if scale != 1:
                part = at.emit(Mul(part, at.emit(Constant.of(np.float32(scale)))))
            bias = part if bias is None else at.emit(Add(bias, part))
        return Masks((bias, see, None), facts or (False, 0))


def shape_of_mask(hidden: Array) -> tuple[bool, int] | None:
    """(causal, window) where they alone say what is hidden; else None."""
    n, m = hidden.shape[2:]
    if not hidden.any():
        return False, 0
    see = ~hidden[0, 0]
    if np.any(hidden != hidden[:1, :1]):
        return None
    width = int(see[min(n, m) - 1].sum())
    for causal, window in ((True, 0), (True, width), (False, width)):
        if np.array_equal(see, visible_keys(n, m, 0, causal, window)):
            return causal, window
    return None


def of_keys(every: Array, hidden: Array) -> Array:
    """Added numbers (B, heads, N, M), 0 where hidden; where they depend on the key alone but for a
    number for each query, as those of ALiBi do, one row (B, heads, 1, M) that begins with 0: what
    is added to all scores of a query changes no softmax.
    """
    visible = np.where(hidden, 0, every - every[..., :1])
    row = visible[:, :, -1:]
    is_one = not hidden[:, :, -1].any() and np.allclose(
        visible, np.where(hidden, 0, row), rtol=0, atol=1e-6 * (1 + np.abs(row).max())
    )
    return row if is_one else np.where(hidden, 0, every)


def narrowed(array: Array) -> Array:
    """`array` with size 1 for each axis along which it does not change."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array


def spread(
    at: Site, value: Value, lead: tuple[int, ...], shape: tuple[int, int, int, int]
) -> Value | Miss:
    """A bias that broadcasts to (*lead, N, M) as one that broadcasts to (B, heads, N, M)."""
    shape_of_value = (*(1,) * (len(lead) + 2 - value.type.rank), *value.type.shape)
    if len(lead) == 2 and lead == shape[:2]:
        return reshaped(at, value, shape_of_value)
    if prod(shape_of_value[:-2]) == 1:
        return reshaped(at, value, (1, 1, *shape_of_value[-2:]))
    if shape_of_value[:-2] == lead:
        return reshaped(at, value, (*shape[:2], *shape_of_value[-2:]))
    return Miss(f"a mask of the run of shape {list(shape_of_value)} by {list(lead)} heads")


def scores_of(at: Site, value: Value, may_hide_rows: bool) -> Scores | Miss:
    """The scores under a softmax; constants are collected in the shape of the product."""
    constants: list[tuple[Array, float]] = []
    biases: list[tuple[Value, float]] = []
    outer = 1.0
    while True:
        if at.uses(value) != 1:
            return Miss("the scores are read elsewhere too", value.name)
        op = at.producer(value)
        if isinstance(op, MatMul):
            total = sum((a * s for a, s in constants), np.zeros(()))
            return Scores(op.a, op.b, outer, may_hide_rows, total, tuple(biases))
        step = inner(at, op)
        if isinstance(step, Miss):
            return step
        value, scale, constant, bias, reshape = step
        if reshape is not None:
            if biases:
                return Miss("a mask of the run is added to other heads", value.name)
            constants = [
                (np.broadcast_to(a, reshape.shape).reshape(value.type.shape), s)
                for a, s in constants
            ]
        if constant is not None:
            constants.append((constant, outer))
        if bias is not None:
            biases.append((bias, outer))
        outer *= scale


Step = tuple[Value, float, Array | None, Value | None, Reshape | None]


def inner(at: Site, op: Op | None, depth: int = 0) -> Step | Miss:
    """One op of the scores undone: what it reads, its factor, what it adds, how it reshapes."""
    match op:
        case Mul() | Div() if (scaled := factor_of(at, op, sums=False)) is not None:
            return scaled[0], float(scaled[1].flat[0]), None, None, None
        case Maximum() if (low := uniform(at, op.b)) is not None and low <= HIDES:
            return op.a, 1.0, None, None, None
        case Reshape() if op.x.type.shape[-2:] == op.shape[-2:]:
            return op.x, 1.0, None, None, op
        case Add() | Sub() if (parts := split_constant(at, op)) is not None:
            x, c, first = parts
            if isinstance(op, Sub) and not first:
                return Miss("scores are subtracted from a constant")
            return x, 1.0, -c if isinstance(op, Sub) else c, None, None
        case Add() if depth < MAX_MASKS:
            for x, other in ((op.a, op.b), (op.b, op.a)):
                if x.type == op.result.type and holds_product(at, x, depth + 1):
                    return x, 1.0, None, other, None
    return Miss("no product of queries and keys")


def holds_product(at: Site, value: Value, depth: int) -> bool:
    """Whether a chain of scales, masks and reshapes leads to a product."""
    while True:
        op = at.producer(value)
        if isinstance(op, MatMul):
            return True
        step = inner(at, op, depth)
        if isinstance(step, Miss):
            return False
        value = step[0]


def kept_rows(at: Site, op: Mul) -> Value | None:
    """x of x * c, c a constant of 0 for some rows and 1 for the others."""
    for x, c in ((op.a, op.b), (op.b, op.a)):
        mask = real_constant(at, c)
        is_rows = mask is not None and mask.ndim and mask.shape[-1] == 1
        if is_rows and np.all((mask == 0) | (mask == 1)) and x.type == op.result.type:
            return x
    return None
