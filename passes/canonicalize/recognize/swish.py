"""Recognize silu, hard-swish and hard-sigmoid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Clip, Constant, Div, HardSigmoid, HardSwish, Mul, Sigmoid, Silu
from qir.passes.canonicalize.recognize.polynomials import is_close, line, polynomial
from qir.passes.infra.constants import split_constant, uniform
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeSwish(RewritePass):
    """x * sigmoid(x) -> silu(x), and its like

    1. clip(a * x + b, 0, h) / h, or * (1 / h) -> hard_sigmoid(x, a / h, b / h)
    2. x * sigmoid(x) -> silu(x); x * sigmoid(beta * x) -> silu(beta * x) * (1 / beta)
    3. x * hard_sigmoid(x, 1/6, 1/2) -> hard_swish(x)
    4. x * clip(x + 3, 0, 6) -> hard_swish(x) * 6, also with x times a constant
    A chain of functions of one value is what becomes one table of integers.
    Keeps: reals within 1e-5.
    Source: Ramachandran et al., arXiv:1710.05941 (swish); Howard et al., arXiv:1905.02244
    (hard-swish).
    """

    name: ClassVar[str] = "recognize-swish"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Mul, Div, Clip)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if isinstance(op, Clip):
            return hard_sigmoid(op, op, 1.0, at)
        if (parts := split_constant(at, op)) is not None:
            x, _, first = parts
            c = uniform(at, op.operands[1 if first else 0])
            clip = at.producer(x)
            if not isinstance(clip, Clip) or not c or not (first or isinstance(op, Mul)):
                return Miss("no clip is scaled by one number")
            return hard_sigmoid(op, clip, 1 / c if isinstance(op, Div) else c, at)
        if not isinstance(op, Mul):
            return Miss("no product")
        for gate, other in ((op.a, op.b), (op.b, op.a)):
            found_gate = gated(op, gate, other, at)
            if not isinstance(found_gate, Miss):
                return found_gate
        return Miss("neither factor is a sigmoid of the other")


def hard_sigmoid(op: Op, clip: Clip, scale: float, at: Site) -> Value | Miss:
    """scale * clip(alpha * x + beta, 0, 1 / scale) as a hard sigmoid."""
    if clip.low != 0 or not is_close(clip.high * scale, 1.0):
        return Miss(f"it clips to [{clip.low * scale:g}, {clip.high * scale:g}], [0, 1] is needed")
    x, (beta, alpha) = line(at, clip.x)
    if beta == 0:
        return Miss("no line a * x + b is clipped")
    return at.replace(HardSigmoid(x, alpha * scale, beta * scale), clip)


def gated(op: Mul, gate: Value, other: Value, at: Site) -> Value | Miss:
    """gate * other, where gate is a sigmoid or clip of what other is a multiple of."""
    gate_op = at.producer(gate)
    if not isinstance(gate_op, (Sigmoid, HardSigmoid, Clip)) or gate.type != other.type:
        return Miss("no sigmoid", gate.name)
    root, (offset, multiple) = line(at, other)
    for x, factor in ((other, 1.0), (root, multiple)) if offset == 0 else ((other, 1.0),):
        inside = polynomial(at, gate_op.x, x)
        if inside is None or len(inside) != 2 or inside[1] == 0:
            continue
        shift, scale = inside
        match gate_op:
            case Sigmoid() if shift == 0:
                y = x if scale == 1 else at.emit(Mul(x, number(scale, x, at)))
                return scaled(op, Silu(y), factor / scale, at)
            case HardSigmoid() if is_close(gate_op.alpha * scale, 1 / 6) and is_close(
                gate_op.alpha * shift + gate_op.beta, 0.5
            ):
                return scaled(op, HardSwish(x), factor, at)
            case Clip() if scale == 1 and shift == 3 and (gate_op.low, gate_op.high) == (0.0, 6.0):
                return scaled(op, HardSwish(x), 6 * factor, at)
    return Miss("the gate is of another value, or not that of a swish", gate.name)


def number(c: float, like: Value, at: Site) -> Value:
    return at.emit(Constant.of(c, like.type.elem))


def scaled(op: Op, new: Op, factor: float, at: Site) -> Value:
    """`new` times a factor, in place of `op`; a factor of 1 up to rounding is dropped."""
    if is_close(factor, 1.0):
        return at.replace(new)
    y = at.emit(new)
    return at.replace(Mul(y, number(factor, y, at)))
