"""Kernels of integers that are made of token ids: within and positions.

    within(x: View, low, high, outside, y: View)
    positions(bits: View, first, hidden, y: View)

The meaning of each is that of its op in qir.ir.ops.sequence.ids. Arguments ("x", "y"), ("bits",
"y").
"""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View


@dataclass(frozen=True)
class WithinCode(NestCode):
    """The nest's operands: x, y."""

    x: str
    low: int
    high: int
    outside: bool
    nest: Nest

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "y")


@dataclass(frozen=True)
class PositionsCode(NestCode):
    """The nest's operands: bits, y; its last axis is that of tokens."""

    first: int
    hidden: int | None
    nest: Nest

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("bits", "y")


def within(x: View, low: int, high: int, outside: bool, y: View) -> Kernel:
    """Which integers lie between two numbers."""
    return Kernel(WithinCode(x.dtype, low, high, outside, nest(y.shape, (x.strides, y.strides))))


def positions(bits: View, first: int, hidden: int | None, y: View) -> Kernel:
    """The positions of tokens that count."""
    loops = nest(y.shape, (bits.strides, y.strides), inner=1)
    return Kernel(PositionsCode(first, hidden, loops))
