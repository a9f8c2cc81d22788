"""The context of a kernel's choice, and its result: a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from qir.backends.kernels.kernel import CONSTANTS, WEIGHTS, Kernel
from qir.backends.kernels.plane import BYTES
from qir.backends.lowering.fuse import Fusion
from qir.backends.lowering.place import Place
from qir.ir.bounds import Bounds
from qir.ir.op import Value
from qir.ir.ops import Constant, ScaleGroups
from qir.ir.target import Target


@dataclass(frozen=True)
class Call:
    """A kernel and where each of its tensors lies, in the order of its pointers.

    Blocks of the kernel's own have no place. `reads`: the bytes it reads of arguments of which it
    does not read all.
    """

    kernel: Kernel
    places: Mapping[str, Place | None]
    macs: int = 0
    about: str = ""
    reads: Mapping[str, int] = field(default_factory=dict)


def call(kernel: Kernel, places: Mapping[str, Place], about: str = "", macs: int = 0) -> Call:
    """The call of a kernel on tensors in these places, by the names of its arguments."""
    order = kernel.code.arguments
    assert set(order) == {*places, *({WEIGHTS, CONSTANTS} & set(order))}, (order, tuple(places))
    return Call(kernel, {name: places.get(name) for name in order}, macs, about)


class NoKernel(Exception):
    """No kernel computes this; the text has the reason."""


@dataclass(frozen=True)
class Context:
    """Everything a choice may depend on besides the fusion.

    `external`: the memory that callers give, of any alignment; all other is aligned.
    `grouped`: weights that are scaled by group; `constants` has them as they come out. `layers`:
    the fusion that reads a matrix as the weights of a layer, by the name of that; `calls`: those of
    such layers that were chosen already, by the result.
    """

    target: Target
    places: Mapping[str, Place]
    constants: Mapping[str, Constant]
    bounds: Mapping[str, Bounds]
    external: frozenset[str] = frozenset()
    grouped: Mapping[str, ScaleGroups] = field(default_factory=dict)
    layers: Mapping[str, Fusion] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)

    @property
    def features(self) -> frozenset[str]:
        return self.target.traits

    def place(self, value: Value) -> Place:
        return self.places[value.name]

    def is_constant(self, place: Place) -> bool:
        """Whether the elements are those of a constant, little endian on every machine."""
        return place.root.removeprefix("%") in self.constants

    def alignment(self, place: Place) -> int:
        """Bytes that the first element of `place` is known to be aligned to."""
        if place.root in self.external:
            return 1
        return gcd(self.target.alignment, place.offset * BYTES[place.dtype])

    def range_of(self, value: Value) -> tuple[int, int]:
        """The proven (least, greatest) stored value."""
        return self.bounds[value.name].ends

    def array(self, value: Value, role: str) -> Any:
        """The elements of a constant operand."""
        constant = self.constants.get(value.name)
        if constant is None:
            raise NoKernel(f"{role} {value} is computed at run time, a constant is needed")
        return constant.value.array
