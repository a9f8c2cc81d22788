"""The one rule table: how each op becomes integers, asked by the planner and by to-integer alike.

A rule answers two questions. `ask`: given how the operands exist, how does the result, or which
operands must be stored first, or why is there no integer form? `lower`: the integer ops of that
answer. The planner asks before anything is quantized; to-integer asks the same, then lowers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, TypeVar

from qir.ir.op import Op, Value
from qir.ir.torch_executor import run_op
from qir.ir.types import I16, Elem, Quant, integer_of
from qir.passes.integer.forms import (
    Fixed,
    Form,
    Lowering,
    Made,
    NoInteger,
    Rows,
    RowSum,
    Stored,
    Sum,
    Table,
)  # fmt: skip

BYTE, WORD, LONG = 8, 16, 32  # bits: of a table's index, of a term of a sum, of rows


class Kind(Enum):
    """How the reals of a value exist."""

    FIXED = "a constant"
    STORED = "a quantized value"
    SUM = "a sum"  # an exact i32 accumulator, or a sum of such: a requantize stores it
    CLAMPED = "a clamped sum"
    TABLE = "a function of a quantized value"  # a lookup stores it
    MADE = "what one op stores"  # a norm, a softmax: in any quantization
    ROWS = "rows with scales of their own"  # codes, and their scales at run time
    ROW_SUM = "a sum of rows"  # scale_rows stores it
    ROW_TOTAL = "a sum of rows and a stored value"  # scale_rows stores it


class Sharing(Enum):
    """Which quantizations of an op's operands and result are one."""

    NONE = "none"
    ALIKE = "operands and result have one quantization"
    RESULT = "operands are read in the quantization of the result"


@dataclass(frozen=True)
class Operand:
    """A value as its readers see it. `source` names the stored integers of which a table is a
    function (of a stored value: its own); `elem` is the type of a stored value, None where it is
    still to be chosen; `is_known`: its elements are constants; `is_exact`: of a sum, that it is
    one integer value of one scale; `is_wide`: it, or its source, has more than 8 bits or will have.
    """

    value: Value
    kind: Kind
    source: str = ""
    elem: Elem | None = None
    is_known: bool = False
    is_exact: bool = False
    is_wide: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.type.shape

    @property
    def is_stored(self) -> bool:
        return self.kind is Kind.STORED

    @property
    def is_per_channel(self) -> bool:
        """Whether it is a constant that depends on the last axis alone."""
        return self.is_known and all(s == 1 for s in self.shape[:-1])

    def fits(self, bits: int) -> bool:
        """Whether it is stored in at most `bits` bits with one scale or none, or can be."""
        if not self.is_stored:
            return False
        if self.elem is None:
            return True
        storage = integer_of(self.elem)
        is_one = not isinstance(self.elem, Quant) or self.elem.is_per_tensor
        return is_one and storage is not None and storage.bits <= bits

    @property
    def is_curve(self) -> bool:
        """Whether straight lines between 1025 of its integers can stand for functions of it."""
        if not (self.is_stored and self.is_wide) or self.elem is None:
            return self.is_stored and self.is_wide
        q = self.elem
        if not isinstance(q, Quant) or not q.is_per_tensor:
            return False
        return q == Quant.per_tensor(I16, float(q.scale.array), 0)


@dataclass(frozen=True)
class Answer:
    """How the result of an op exists; `bits`: at most so many of each stored operand."""

    kind: Kind
    source: str = ""
    elem: Elem | None = None
    is_known: bool = False
    bits: int = BYTE
    sharing: Sharing = Sharing.NONE
    is_exact: bool = False


@dataclass(frozen=True)
class Needs:
    """Operands, by their places, that must be stored before the op has an integer form."""

    places: tuple[int, ...]


class Rule:
    """How ops of some classes become integers; `moves`: on stored constants as on anything else."""

    moves: ClassVar[bool] = False

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        """Errors: NoInteger with the reason where storing operands does not help."""
        raise NotImplementedError(type(self).__name__)

    def lower(self, op: Any, at: Lowering, answer: Answer) -> Form:
        """The form of the result, whose integer ops are appended to `at`."""
        raise NotImplementedError(type(self).__name__)


RULES: dict[type[Op], Rule] = {}
R = TypeVar("R", bound=type[Rule])


def rule(*classes: type[Op]) -> Callable[[R], R]:
    """Declare the class below as the rule of these op classes, and of those derived from them that
    have no rule of their own.
    """

    def declare(kind: R) -> R:
        RULES.update(dict.fromkeys(classes, kind()))
        return kind

    return declare


def rule_of(op: Op) -> Rule:
    """The rule of an op's class, or of the nearest class that it is derived from.

    Errors: NoInteger if there is none.
    """
    for base in type(op).__mro__:
        if base in RULES:
            return RULES[base]
    raise NoInteger(f"{op.mnemonic} has no integer form")


def ask(op: Op, operands: Sequence[Operand]) -> Answer | Needs:
    """The answer of the op's rule; a function of constants is a constant.

    Errors: NoInteger where the op has no integer form.
    """
    kind = rule_of(op)
    is_float = all(v.type.is_float for v in (*op.operands, *op.results))
    is_known = bool(operands) and all(operand.is_known for operand in operands)
    is_moved = kind.moves and all(operand.is_stored for operand in operands)
    if is_known and is_float and not is_moved:
        return Answer(Kind.FIXED, is_known=True)
    return kind.ask(op, operands)


def lower(op: Op, at: Lowering, answer: Answer) -> Form:
    """The form that `ask` answered."""
    if answer.kind is Kind.FIXED and op.operands:
        return Fixed(run_op(op, [at.reals(v) for v in op.operands]))
    return rule_of(op).lower(op, at, answer)


def operand_of(value: Value, at: Lowering) -> Operand:
    """A value that has been lowered, as rules are asked about it."""
    match at.forms[value.name]:
        case Fixed():
            return Operand(value, Kind.FIXED, is_known=True)
        case Stored(integers, is_known):
            elem, is_wide = integers.type.elem, bits_of(integers) > BYTE
            return Operand(value, Kind.STORED, integers.name, elem, is_known, is_wide=is_wide)
        case Sum() as form:
            kind = Kind.CLAMPED if form.is_clamped else Kind.SUM
            return Operand(value, kind, is_exact=form.is_exact)
        case Table(source):
            return Operand(value, Kind.TABLE, source.name, is_wide=bits_of(source) > BYTE)
        case Made():
            return Operand(value, Kind.MADE)
        case Rows():
            return Operand(value, Kind.ROWS)
        case RowSum(residual=residual):
            return Operand(value, Kind.ROW_SUM if residual is None else Kind.ROW_TOTAL)


def bits_of(value: Value) -> int:
    """The bits of a stored value; of an integer without a scale 0."""
    return value.type.elem.storage.bits if isinstance(value.type.elem, Quant) else 0


def stored_operands(operands: Sequence[Operand], bits: int = BYTE) -> Needs | None:
    """The operands that an op, which reads all of them stored, still needs stored; None if none.

    Errors: NoInteger for a stored operand of more bits, or of more than one scale.
    """
    missing = tuple(i for i, operand in enumerate(operands) if not operand.is_stored)
    if missing:
        return Needs(missing)
    for operand in operands:
        if not operand.fits(bits):
            raise NoInteger(
                f"operand {operand.value} is {operand.elem}, at most {bits} bits and one scale are"
                " needed"
            )
    return None


def as_stored(
    operands: Sequence[Operand], kind: Kind, bits: int = BYTE, **more: Any
) -> Answer | Needs:
    """The answer of an op that reads all its operands stored, in at most `bits` bits."""
    return stored_operands(operands, bits) or Answer(kind, bits=bits, **more)
