"""Ops as declarations: a field typed Value is an operand, any other field an attribute."""

from __future__ import annotations

import math
import struct
import types
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import (
    Any,
    ClassVar,
    NoReturn,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
import numpy.typing as npt

from qir.ir.attributes import fits, hint_text
from qir.ir.axes import Perm
from qir.ir.bounds import Bounds, Extreme
from qir.ir.errors import VerifyError
from qir.ir.names import is_word
from qir.ir.types import Quant, Tensor

Array = npt.NDArray[Any]
Interval = tuple[float, float]  # of reals: least, greatest
REALS: Interval = (-math.inf, math.inf)


@dataclass(frozen=True)
class Loc:
    """Where an op came from ("model.onnx node /conv1") and the passes that touched it since."""

    source: str = ""
    passes: tuple[str, ...] = ()

    def touched(self, by: str) -> Loc:
        return self if by in self.passes[-1:] else Loc(self.source, (*self.passes, by))

    @staticmethod
    def merged(*locs: Loc) -> Loc:
        """One place out of several: sources joined by ' + ', passes in order of first sight."""
        sources = dict.fromkeys(part for loc in locs for part in loc.source.split(" + ") if part)
        passes = dict.fromkeys(name for loc in locs for name in loc.passes)
        return Loc(" + ".join(sources), tuple(passes))


@dataclass(frozen=True)
class Value:
    """A named, typed result of an op or input of a graph. Text: %name."""

    name: str
    type: Tensor

    def __hash__(self) -> int:
        return hash(self.name)

    def batch_fault(self) -> str | None:
        """Why its quantization is one for this batch size alone, or None."""
        elem = self.type.elem
        if isinstance(elem, Quant) and (elem.axis == 0 or elem.block is not None):
            return f"{self} has scales for each sample"
        return None

    def __str__(self) -> str:
        return f"%{self.name}"


class OperandKind:
    ONE, OPTIONAL, MANY = "one", "optional", "many"


@dataclass(frozen=True)
class OpField:
    """One field of an op class: an operand of some kind, or an attribute with its annotation."""

    name: str
    operand: str | None
    annotation: Any


@dataclass(frozen=True)
class Op:
    """What every op has: the names of its results and the place it came from.

    A subclass says its formula in the docstring and gives
      infer()            the type of the result (or a tuple of them), raising VerifyError on
          operands that do not fit;
      faults()           other broken rules, one text each (optional);
      permitted()        operands, such as indexes, with the least and greatest integer that callers
          may give there, where it clips others (optional);
      compute(torch, *)  the meaning on reals, in torch, differentiable: for float stages;
      evaluate(*)        the meaning on stored integers, in NumPy, exact: for the integer stage;
      bound(*)           the least and greatest stored value, where they are not just the storage's
          (a tuple, of several results);
      extremes(*)        every intermediate sum or product with its bounds, for the overflow proof.
    bound() and extremes() take the Bounds of each operand; with `reads_elements`, the elements of
    those that are constants.

    What else passes need to know of it stands on the class: its bases (qir.ir.ops.kinds) and
      range              the least and greatest real of the result, whatever the operands;
      range_is_open      the ends of `range` are limits that no operand reaches, so that the result
          is stored over all 2**bits steps from the one to the other, whatever was calibrated;
      homogeneous        f(s * x) = s * f(x) for s > 0, one s for each channel (the last axis);
      accumulates        of quantized operands the result is an exact i32 sum of products, which a
          requantize scales;
      last_axes          how many axes at the end it reads as such: they are last in every layout;
      has_parameters     its first operand alone may hold samples; the others are the same for all.
    """

    mnemonic: ClassVar[str] = ""
    reads_elements: ClassVar[bool] = False
    range: ClassVar[Interval] = REALS
    range_is_open: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False
    last_axes: ClassVar[int] = 0
    has_parameters: ClassVar[bool] = True

    names: tuple[str, ...] = field(default=(), kw_only=True)
    loc: Loc = field(default=Loc(), kw_only=True)

    # -- to be given by subclasses

    def infer(self) -> Tensor | tuple[Tensor, ...]:
        raise NotImplementedError(type(self).__name__)

    def faults(self) -> Iterator[str]:
        yield from ()

    def permitted(self) -> Iterator[tuple[Value, int, int]]:
        yield from ()

    def compute(self, torch: Any, *operands: Any) -> Any:
        raise VerifyError(f"{self}: has no meaning on floats")

    def evaluate(self, *operands: Any) -> Any:
        raise VerifyError(f"{self}: has no meaning on stored integers")

    def bound(self, *operands: Any) -> Bounds | tuple[Bounds, ...]:
        every = tuple(Bounds.of_type(v.type) for v in self.results)
        return every if len(every) > 1 else every[0]

    def extremes(self, *operands: Any) -> Iterator[Extreme]:
        yield from ()

    def reals(self, *operands: Interval) -> Interval:
        """The least and greatest real of the result, from those of the operands: no float that
        compute gives lies outside.
        """
        return self.range

    @property
    def is_pointwise(self) -> bool:
        """Each element of the result depends on the same element of the only operand alone."""
        return False

    # -- layouts: the result transposed by a permutation, from operands that are transposed too

    def followers(self) -> tuple[Value, ...] | None:
        """The operands that share the result's layout; None when it has a layout of its own."""
        return None

    def broadcast_operands(self) -> tuple[Value, ...]:
        """Operands that get axes of size 1 in front, to follow the result's layout after that."""
        return ()

    def in_layout(self, perm: Perm) -> Op:
        """The op with its attributes in a layout; the caller binds operands that follow it."""
        return self

    # -- batches: samples along the first axis, operands and results of one or of several

    def batch_fault(self, batch: int) -> str | None:
        """Why it does not treat `batch` samples of its operands one by one, or None."""
        if self.last_axes and self.operands[0].type.rank == 1:
            return f"{self.mnemonic} works along the batch axis"
        for v in self.results:
            if v.type.rank == 0 or v.type.shape[0] != batch:
                return f"result {v.type} does not start with the batch size {batch}"
            if fault := v.batch_fault():
                return fault
        return None

    def with_batch(self, batch: int) -> Op:
        """The op with its own mention of the batch size changed."""
        return self

    # -- the same for all ops

    @classmethod
    def has_integers(cls) -> bool:
        """Whether the op is defined on stored integers, and so may stand in the integer stage."""
        return cls.evaluate is not Op.evaluate

    @classmethod
    def has_floats(cls) -> bool:
        return cls.compute is not Op.compute

    @cached_property
    def results(self) -> tuple[Value, ...]:
        out = self.infer()
        types_ = out if isinstance(out, tuple) else (out,)
        if len(types_) != len(self.names):
            raise VerifyError(
                f"{self.mnemonic}: {len(self.names)} result names, {len(types_)} results"
            )
        return tuple(Value(n, t) for n, t in zip(self.names, types_, strict=True))

    @property
    def result(self) -> Value:
        (only,) = self.results
        return only

    @cached_property
    def operands(self) -> tuple[Value, ...]:
        """All operands in the order of the fields, absent optional ones left out."""
        return tuple(
            v
            for f in op_fields(type(self))
            if f.operand
            for v in operands_of(getattr(self, f.name))
        )

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """faults(), looked for once: an op never changes."""
        return tuple(self.faults())

    @cached_property
    def misfits(self) -> tuple[str, ...]:
        """Attributes that are not of their fields' types, looked for once."""
        attributes = ((f, getattr(self, f.name)) for f in op_fields(type(self)) if not f.operand)
        return tuple(
            f"{self}: {f.name} is {value!r} of {type(value).__name__}, {hint_text(f.annotation)} is"
            " needed"
            for f, value in attributes
            if not fits(value, f.annotation)
        )

    def rebind(self, to: Callable[[Value], Value]) -> Op:
        """The same op on other operands."""
        new: dict[str, Any] = {}
        same_values = same_types = True
        for f in op_fields(type(self)):
            old = getattr(self, f.name) if f.operand else None
            if old is None:
                continue
            operand = tuple(to(v) for v in old) if isinstance(old, tuple) else to(old)
            new[f.name] = operand
            for before, after in zip(operands_of(old), operands_of(operand), strict=True):
                same_values = same_values and before == after
                same_types = same_types and before.type == after.type
        if same_values:
            return self
        op = self._copied(new)
        if same_types and "results" in self.__dict__:  # types follow from types alone
            op.__dict__["results"] = self.results
        return op

    def on(self, *operands: Value) -> Op:
        """The same op on these operands, one for each that is there, in the order of the fields."""
        rest = iter(operands)
        return self.rebind(lambda _: next(rest))

    def named(self, names: tuple[str, ...], types: tuple[Tensor, ...] | None = None) -> Op:
        """The same op with other result names; `types` of the results, where they are known."""
        op = self._copied({"names": names})
        if types is None and "results" in self.__dict__:
            types = tuple(v.type for v in self.results)
        if types is not None:
            op.__dict__["results"] = tuple(map(Value, names, types))
        return op

    def _copied(self, new: dict[str, Any]) -> Op:
        """dataclasses.replace, several times faster: a pass copies every op that it renumbers."""
        op = object.__new__(type(self))
        for f in fields(self):
            op.__dict__[f.name] = new[f.name] if f.name in new else self.__dict__[f.name]
        return op

    def unpack(self, flat: tuple[Any, ...]) -> list[Any]:
        """Arguments for compute/evaluate/bound, one for each operand field: None for absent, a
        tuple for many.
        """
        rest = iter(flat)
        args: list[Any] = []
        for f in op_fields(type(self)):
            if f.operand:
                value = getattr(self, f.name)
                if isinstance(value, tuple):
                    args.append(tuple(next(rest) for _ in value))
                else:
                    args.append(None if value is None else next(rest))
        return args

    def fail(self, problem: str, requirement: str) -> NoReturn:
        raise VerifyError(f"{self}: {problem}, {requirement}")

    def __hash__(self) -> int:
        return hash((self.mnemonic, self.names))

    def __str__(self) -> str:
        at = f" ({self.loc.source})" if self.loc.source else ""
        return f"{self.mnemonic} {' '.join('%' + n for n in self.names) or '(unnamed)'}{at}"


def meaning(op: Op) -> Hashable:
    """The key of an op's computation: its class, operands and attributes, floats by their bits (0.0
    == -0.0, and a NaN is not equal to itself).
    """
    return (type(op), *(bits_of(getattr(op, f.name)) for f in op_fields(type(op))))


def bits_of(attribute: Any) -> Hashable:
    if isinstance(attribute, float):
        return struct.pack("<d", attribute)
    if isinstance(attribute, tuple):
        return tuple(map(bits_of, attribute))
    value: Hashable = attribute
    return value


def operands_of(operand: Value | tuple[Value, ...] | None) -> tuple[Value, ...]:
    if operand is None:
        return ()
    return operand if isinstance(operand, tuple) else (operand,)


OPS: dict[str, type[Op]] = {}
C = TypeVar("C", bound=type[Op])


@dataclass_transform(frozen_default=True)
def op(mnemonic: str) -> Callable[[C], C]:
    """Declare the class below as the op written `mnemonic`: frozen, compared by fields, known to
    the parser.
    """

    def declare(cls: C) -> C:
        names = {
            n for n, hint in cls.__annotations__.items() if not str(hint).startswith("ClassVar")
        }
        if clashes := sorted(n for n in names if hasattr(cls, n)):
            raise VerifyError(
                f"op {mnemonic}: field {clashes[0]!r} has a default, or the name of a member of Op;"
                " fields without, of other names, are needed"
            )
        op_class = dataclass(frozen=True, repr=False)(cls)
        setattr(op_class, "__hash__", Op.__hash__)  # noqa: B010 (dataclass has put one over all fields)
        op_class.mnemonic = mnemonic
        if not is_word(mnemonic):
            raise VerifyError(f"op {mnemonic!r} of {cls.__name__}: a word is needed as its name")
        if mnemonic in OPS:
            first = OPS[mnemonic].__name__
            raise VerifyError(
                f"op {mnemonic}: declared by {first} and {cls.__name__}, once is needed"
            )
        OPS[mnemonic] = op_class
        return cast(C, op_class)

    return declare


_FIELDS: dict[type[Op], tuple[OpField, ...]] = {}


def op_fields(cls: type[Op]) -> tuple[OpField, ...]:
    """The fields of an op class, operands told from attributes by their annotation."""
    if cls not in _FIELDS:
        hints = get_type_hints(cls)
        names = [f.name for f in fields(cls) if f.name not in ("names", "loc")]
        _FIELDS[cls] = tuple(OpField(n, _operand_kind(hints[n]), hints[n]) for n in names)
    return _FIELDS[cls]


def _operand_kind(hint: Any) -> str | None:
    if hint is Value:
        return OperandKind.ONE
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple and args == (Value, ...):
        return OperandKind.MANY
    if origin in (Union, types.UnionType) and set(args) == {Value, type(None)}:
        return OperandKind.OPTIONAL
    return None


def stored(x: npt.ArrayLike, type_: Tensor) -> Array:
    """`x` in the carrier of `type_`, after its clamp: no value is ever cut silently."""
    return np.asarray(np.asarray(x).astype(type_.elem.carrier), order="C")
