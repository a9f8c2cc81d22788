"""How the reals of a simulated graph exist as integers while to-integer walks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from qir.ir.errors import QirError
from qir.ir.graph import Builder
from qir.ir.op import Loc, Op, Value
from qir.ir.types import Array, Quant

NOWHERE = Loc()


@dataclass(frozen=True)
class Stored:
    """Exactly the reals that a stored value stands for."""

    value: Value


@dataclass(frozen=True)
class Fixed:
    """Constant reals, in float64."""

    reals: Array


@dataclass(frozen=True)
class Term:
    """sign * factor * the reals of an integer value; factor broadcasts to the sum's shape."""

    value: Value
    sign: int = 1
    factor: Array | None = None


@dataclass(frozen=True)
class Sum:
    """min(max(sum of terms + offset, low), high): one requantize stores it."""

    terms: tuple[Term, ...]
    offset: Array | None = None
    low: float = -np.inf
    high: float = np.inf
    loc: Loc = NOWHERE

    @property
    def is_clamped(self) -> bool:
        return (self.low, self.high) != (-np.inf, np.inf)


@dataclass(frozen=True)
class Table:
    """A function of one stored value: the reals for each of its integers, (levels, 1 or C)."""

    source: Value
    reals: Array
    clamp: tuple[float, float] | None  # the function, when it is no more than this
    loc: Loc = NOWHERE


@dataclass(frozen=True)
class Probabilities:
    """Softmax of a stored value: softmax_fixed stores it."""

    source: Value
    loc: Loc = NOWHERE


Form = Stored | Fixed | Sum | Table | Probabilities


class NoInteger(QirError):
    """Why one op has no integer form; to-integer collects these."""


@dataclass
class Lowering:
    """The integer graph so far, and the form of each value of the simulated one."""

    builder: Builder
    taken: set[str]  # names of the simulated graph: accumulators must not look like its values
    forms: dict[str, Form] = field(default_factory=dict)
    stored_names: set[str] = field(default_factory=set)  # of reals whose integers have their name

    def emit(self, op: Op, name: str, loc: Loc) -> Value:
        return self.builder.add(replace(op, loc=loc.touched("to-integer"), names=()), name)

    def accumulator(self, op: Op, like: Op) -> Value:
        """Append the op that sums for `like`; the name of `like` is kept for what is stored."""
        name = f"{like.names[0]}_acc"
        while name in self.taken:
            name += "_"
        return self.emit(op, name, like.loc)

    def stored(self, value: Value, bits: int = 8) -> Value:
        """The integers of an operand that must be stored in at most `bits` bits with one scale."""
        form = self.forms[value.name]
        if not isinstance(form, Stored):
            raise NoInteger(f"operand {value} is not quantized", "calibrate, or quantize it")
        elem = form.value.type.elem
        if not isinstance(elem, Quant) or elem.storage.bits > bits:
            raise NoInteger(f"operand {value} is {elem}, at most {bits} bits are needed")
        return form.value


Rule = Callable[..., Form]
RULES: dict[type[Op], Rule] = {}
R = TypeVar("R", bound=Rule)


def rule(*kinds: type[Op]) -> Callable[[R], R]:
    """Declare the function below as how ops of these classes, and of those derived from them that
    have no rule of their own, become integers: (op, at) -> Form.
    """

    def declare(function: R) -> R:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return declare


def rule_of(kind: type[Op]) -> Rule | None:
    """The rule of an op class, or of the nearest class that it is derived from."""
    return next((RULES[c] for c in kind.__mro__ if c in RULES), None)


def reals_of(value: Value) -> Array:
    """The real that each stored integer of a per-tensor quantized value stands for, float64."""
    q = value.type.quant
    every = np.arange(q.storage.min, q.storage.max + 1)
    return (every - int(q.zero_point.array)).astype(np.float64) * float(q.scale.array)
