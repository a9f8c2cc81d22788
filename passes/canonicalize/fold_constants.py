"""Evaluate ops of constant operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Constant, Dequantize, Pad
from qir.ir.ops.shape import Move
from qir.ir.torch_executor import run_op
from qir.ir.types import Array, Quant
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class FoldConstants(RewritePass):
    """f(constant, ...) -> constant, for ops on floats, and for ops on stored integers

    A dequantized constant is kept: its stored integers and scales are the model's own. They are
    moved together: move(dequantize(constant)) -> dequantize(constant), where the scales still vary
    along one axis at most.
    Keeps: every bit.
    """

    name: ClassVar[str] = "fold-constants"
    claim: ClassVar[Claim] = KEEPS_BITS

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if not op.operands:
            return Miss("no operands")
        if isinstance(op, Dequantize):
            return Miss("a quantized constant is kept as the model has it")
        if isinstance(op, Move) and not isinstance(op, (Concat, Pad)):
            source = at.producer(op.operands[0])
            if (
                isinstance(source, Dequantize)
                and (constant := _after_move(op, source, at)) is not None
            ):
                return at.replace(Dequantize(at.emit(constant)), source)
        arrays = [a for v in op.operands if (a := at.constant(v)) is not None]
        if len(arrays) < len(op.operands):
            return Miss("an operand is not a constant")
        elem = op.result.type.elem
        if op.has_floats() and op.result.type.is_float:
            return at.replace(Constant.of(run_op(op, arrays), elem))
        if op.has_integers() and not any(v.type.is_float for v in op.operands):
            return at.replace(Constant.of(op.evaluate(*op.unpack(tuple(arrays))), elem))
        return Miss("floats become integers: the model's own rounding is kept visible")


def _after_move(op: Move, source: Dequantize, at: Site) -> Constant | None:
    """The stored constant that `op` moves, with its scales; None where no axis alone has them."""
    stored = at.constant(source.x)
    if stored is None:
        return None
    old = source.x.type.quant

    def move(array: Array) -> Array:
        return run_op(op, [np.broadcast_to(array, stored.shape)])

    scale, zero = (move(part) for part in old.spread(stored.shape))
    axis = next(
        (a for a in range(scale.ndim) if all(np.all(p == _along(p, a)) for p in (scale, zero))),
        None,
    )
    if not scale.size or axis is None:
        return None
    if np.all(scale == scale.flat[0]) and np.all(zero == zero.flat[0]):
        quant = Quant.per_tensor(old.storage, float(scale.flat[0]), int(zero.flat[0]))
    else:
        scales, zeros = (_along(part, axis).reshape(-1) for part in (scale, zero))
        quant = Quant.per_axis(old.storage, scales, zeros, axis)
    return Constant.of(move(stored), quant)


def _along(array: Array, axis: int) -> Array:
    """The first elements along all axes but one."""
    return array[tuple(slice(None) if a == axis else slice(1) for a in range(array.ndim))]
