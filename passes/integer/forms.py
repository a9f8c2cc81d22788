"""Integer forms of the reals of a simulated graph during to-integer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from qir.ir.errors import QirError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant
from qir.ir.ops.quantize import quantized
from qir.ir.ops.sequence.curve import SEGMENT_BITS
from qir.ir.types import Array, Quant, integer_of

NOWHERE = Loc()


@dataclass(frozen=True)
class Stored:
    """The reals of a stored value, exactly; `is_known`: of a constant."""

    value: Value
    is_known: bool = False


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

    @property
    def is_exact(self) -> bool:
        """Whether it is one integer value of one scale and zero point 0."""
        if self.is_clamped or self.offset is not None or len(self.terms) != 1:
            return False
        (term,) = self.terms
        quant = term.value.type.quant
        is_plain = term.factor is None and term.sign == 1
        return is_plain and quant.is_per_tensor and quant.zero_point.item() == 0

    def clamped(self, low: float, high: float, loc: Loc) -> Sum:
        """clamp(clamp(x, a, b), c, d) = clamp(x, clamp(a, c, d), clamp(b, c, d))"""
        ends = (min(max(end, low), high) for end in (self.low, self.high))
        return replace(self, low=next(ends), high=next(ends), loc=Loc.merged(self.loc, loc))


@dataclass(frozen=True)
class Table:
    """A function of one stored value: the reals for each of its integers, (levels, 1 or C)."""

    source: Value
    reals: Array
    clamp: tuple[float, float] | None  # the function, when it is no more than this
    loc: Loc = NOWHERE


@dataclass(frozen=True)
class Made:
    """What one op computes and stores in any quantization that `make` is given."""

    make: Callable[[Quant], Op]
    loc: Loc = NOWHERE


@dataclass(frozen=True)
class Rows:
    """codes * the row scale of each block, found at run time (qir.ir.rows)."""

    codes: Value
    scale: Value
    block: int


@dataclass(frozen=True)
class RowSum:
    """sums * the scale of the row + bias + residual: one scale_rows stores it."""

    sums: Value
    scale: Value
    bias: Array | None = None
    residual: Value | None = None
    loc: Loc = NOWHERE


Form = Stored | Fixed | Sum | Table | Made | Rows | RowSum


class NoInteger(QirError):
    """Why one op has no integer form; to-integer collects these."""


@dataclass
class Lowering:
    """The integer graph so far, and the form of each value of the simulated one."""

    builder: Builder
    names: set[str]  # names of the simulated graph: accumulators must not look like its values
    forms: dict[str, Form] = field(default_factory=dict)
    constants: dict[tuple[str, Quant], Value] = field(default_factory=dict)
    stored_names: set[str] = field(default_factory=set)  # of reals whose integers have their name

    def emit(self, op: Op, name: str, loc: Loc) -> Value:
        return self.builder.add(replace(op, loc=loc.touched("to-integer"), names=()), name)

    def accumulator(self, op: Op, like: Op) -> Value:
        """Append the op that sums for `like`; the name of `like` is kept for what is stored."""
        return self.emit(op, self.free(f"{like.names[0]}_acc"), like.loc)

    def free(self, name: str) -> str:
        """A name that no value of the simulated graph has."""
        while name in self.names:
            name += "_"
        return name

    def reals(self, value: Value) -> Array:
        """The elements of a constant, stored or not, in float64."""
        form = self.forms[value.name]
        if isinstance(form, Fixed):
            return form.reals
        producer = self.builder.producer(form.value) if isinstance(form, Stored) else None
        if not isinstance(producer, Constant):
            raise NoInteger(f"operand {value} is computed, a constant is needed")
        scale, zero = producer.result.type.quant.spread(producer.value.shape)
        return np.asarray((producer.value.array.astype(np.int64) - zero) * scale)

    def constant(self, value: Value, to: Quant) -> Value:
        """A constant in this quantization, once for all that read it so."""
        key = value.name, to
        if key not in self.constants:
            integers = quantized(self.reals(value), to, Rounding.HALF_EVEN)
            name = self.free(f"{value.name}_fixed")
            self.constants[key] = self.builder.add(Constant.of(integers, to), name)
        return self.constants[key]

    def sum_of(self, value: Value) -> Sum:
        """A stored value, a constant or a sum as a sum."""
        match self.forms[value.name]:
            case Stored(integers):
                return Sum((Term(integers),))
            case Fixed(reals):
                return Sum((), reals)
            case Sum() as form:
                return form
            case form:
                raise NoInteger(f"operand {value} is a {type(form).__name__.lower()}")

    def stored(self, value: Value, bits: int = 8) -> Value:
        """The integers of an operand that must be stored in at most `bits` bits with one scale."""
        form = self.forms[value.name]
        if not isinstance(form, Stored):
            raise NoInteger(f"operand {value} is not quantized", "calibrate, or quantize it")
        elem = form.value.type.elem
        storage = integer_of(elem)
        if storage is None or storage.bits > bits:
            raise NoInteger(f"operand {value} is {elem}, at most {bits} bits are needed")
        return form.value


def reals_of(value: Value) -> Array:
    """The real of each stored integer of a per-tensor quantized value, float64; of one of 16 bits
    those at the 1025 ends of the lines that interpolate draws.
    """
    q = value.type.quant
    step = 1 if q.storage.bits <= 8 else 1 << (q.storage.bits - SEGMENT_BITS)
    every = np.arange(q.storage.min, q.storage.max + 1 + (step > 1), step)
    return (every - int(q.zero_point.array)).astype(np.float64) * float(q.scale.array)
