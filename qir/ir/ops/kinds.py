"""Kinds of ops: what an op says of itself by its bases, so that passes need not know it by name.

A pass asks `isinstance(op, Selection)`, or reads an attribute of `Op` (homogeneous, followers).
Families are kinds too: Unary and Clamp (unary.py), Binary (elementwise.py), Move (shape.py), Pool
(pool.py), Reduce (reduce.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Interval, Op, Value


class Elementwise(Op):
    """Each element of the result is one function of the operands' elements that broadcast to its
    place. Of one 8-bit operand, and constants that vary along the last axis alone, it is a table.
    """

    has_parameters: ClassVar[bool] = False


class Selection(Op):
    """Each element of the result is an element of an operand, or of padding, on reals as on stored
    integers. So operands and result share one quantization.
    """

    def reals(self, *operands: Interval) -> Interval:
        return min(low for low, _ in operands), max(high for _, high in operands)


class Contraction(Op):
    """Sums of products of two operands; of quantized ones, exact i32 accumulators."""

    accumulates: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Layer(Contraction):
    """A contraction of activations x by weights w: w[o] and bias[o] make channel o, the last axis
    of the result.
    """

    reads_elements: ClassVar[bool] = True

    x: Value
    w: Value
    bias: Value | None
