"""Chooses the kernel of a group of ops, from its meaning and from where its operands lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import gcd
from typing import Any, Protocol

from qir.backends.kernels.kernel import Code
from qir.backends.kernels.plane import BYTES
from qir.backends.lowering.fuse import Group
from qir.backends.lowering.place import Place
from qir.ir.bounds import Bounds
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, ScaleGroups
from qir.ir.target import Target


class Unit(Protocol):
    """What every code is: frozen, hashable, and cut into units of work."""

    @property
    def units(self) -> int: ...

    def __hash__(self) -> int: ...


class Kernel(Protocol):
    """Code to build and the constants it reads."""

    @property
    def code(self) -> Unit: ...

    @property
    def constants(self) -> bytes: ...


class OrderedKernel(Protocol):
    """A kernel whose code names its arguments."""

    @property
    def code(self) -> Code: ...

    @property
    def constants(self) -> bytes: ...


@dataclass(frozen=True)
class Call:
    """A kernel and where each of its tensors lies, in the order of its pointers.

    CONSTANTS has no place.
    """

    kernel: Kernel
    places: Mapping[str, Place | None]
    macs: int = 0
    about: str = ""


CONSTANTS = "constants"
"""The argument that points to the kernel's constants block."""


def call(
    kernel: OrderedKernel, places: Mapping[str, Place], about: str = "", macs: int = 0
) -> Call:
    """The call of a kernel on tensors in these places, by the names of its arguments."""
    order = kernel.code.arguments
    assert set(order) == {*places, *({CONSTANTS} & set(order))}, (order, tuple(places))
    return Call(kernel, {name: places.get(name) for name in order}, macs, about)


class Missing(Exception):
    """No kernel does this; the text says why."""


@dataclass(frozen=True)
class Context:
    """All that a choice may depend on beside the group.

    `external`: the memory that callers give, of any alignment; all other is aligned.
    `grouped`: weights that are scaled by group; `constants` has them as they come out.
    """

    target: Target
    places: Mapping[str, Place]
    constants: Mapping[str, Constant]
    bounds: Mapping[str, Bounds]
    external: frozenset[str] = frozenset()
    grouped: Mapping[str, ScaleGroups] = field(default_factory=dict)

    @property
    def features(self) -> frozenset[str]:
        return self.target.traits

    def place(self, value: Value) -> Place:
        return self.places[value.name]

    def alignment(self, place: Place) -> int:
        """Bytes that the first element of `place` is known to be aligned to."""
        if place.root in self.external:
            return 1
        return gcd(self.target.alignment, place.offset * BYTES[place.dtype])

    def range_of(self, value: Value) -> tuple[int, int]:
        """The proven (least, greatest) stored value."""
        return self.bounds[value.name].whole

    def array(self, value: Value, what: str) -> Any:
        """The elements of a constant operand."""
        found = self.constants.get(value.name)
        if found is None:
            raise Missing(f"{what} {value} is computed at run time, a constant is needed")
        return found.value.array


Chooser = Callable[[Group, Context], Call]
CHOOSERS: dict[type[Op], Chooser] = {}


def chooses(*classes: type[Op]) -> Callable[[Chooser], Chooser]:
    """Register the function below for groups with these anchors."""

    def register(chooser: Chooser) -> Chooser:
        CHOOSERS.update(dict.fromkeys(classes, chooser))
        return chooser

    return register


CHOOSE_IN = ("contraction", "elementwise", "reduction", "other")
"""The modules of choose/; loaded at the first choice."""


def choose(group: Group, context: Context) -> Call:
    """The kernel for `group`. Errors: Missing, or a kernel's own ValueError."""
    for name in CHOOSE_IN:
        import_module(f"qir.backends.lowering.choose.{name}")
    chooser = CHOOSERS.get(type(group.anchor))
    if chooser is None:
        raise Missing(f"no kernel for {group.anchor.mnemonic}")
    return chooser(group, context)
