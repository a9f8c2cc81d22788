"""Means and interpolations: exact i32 sums whose scale holds the divisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Rounding, round_real
from qir.ir.op import Op
from qir.ir.ops import AvgPool, Bilinear
from qir.ir.ops.reduce import Total
from qir.ir.ops.resize import WEIGHT_BITS
from qir.ir.types import Array
from qir.passes.integer.forms import Form, Lowering, Sum, Term
from qir.passes.integer.rules import Answer, Kind, Needs, Operand, Rule, as_stored, rule


class Sums(Rule):
    """An exact sum over stored x."""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        return as_stored(operands, Kind.SUM)


@rule(AvgPool)
class Averages(Sums):
    """avg_pool(x) -> sum(avg_pool on stored x); without the padding in the count, a factor
    kh * kw / count for each place."""

    def lower(self, op: AvgPool, at: Lowering, answer: Answer) -> Form:
        factor = None
        if any(op.pad) and not op.count_pad:
            factor = op.kernel[0] * op.kernel[1] / op.counts().astype(np.float64)
        summed = replace(op, x=at.stored(op.x), count_pad=True)
        return Sum((Term(at.accumulator(summed, op), factor=factor),), loc=op.loc)


@rule(Total)
class Reductions(Sums):
    """reduce(x) -> sum(reduce on stored x)"""

    def lower(self, op: Total, at: Lowering, answer: Answer) -> Form:
        return Sum((Term(at.accumulator(replace(op, x=at.stored(op.x)), op)),), loc=op.loc)


@rule(Bilinear)
class Interpolations(Sums):
    """bilinear(x) -> sum(bilinear on stored x, weights in units of 2**-11 that sum to 1)"""

    def lower(self, op: Bilinear, at: Lowering, answer: Answer) -> Form:
        u, v = (Data(integer_weights(w.array)) for w in (op.u, op.v))
        integers = replace(op, x=at.stored(op.x), u=u, v=v)
        return Sum((Term(at.accumulator(integers, op)),), loc=op.loc)


def integer_weights(weights: Array) -> Array:
    """Pairs (n, 2) of reals that sum to 1 as int16 pairs that sum to 2**11."""
    near = round_real(weights[:, 0] * (1 << WEIGHT_BITS), Rounding.HALF_UP)
    return np.stack([near, (1 << WEIGHT_BITS) - near], axis=1).astype(np.int16)
