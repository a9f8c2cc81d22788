"""Recognize gelu, by erf or by tanh."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Div, Erf, Gelu, Mul, Tanh
from qir.passes.canonicalize.recognize.polynomials import is_close, line, matches, polynomial
from qir.passes.canonicalize.recognize.swish import scaled
from qir.passes.infra.constants import uniform
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site

TANH_INSIDE = (0.0, math.sqrt(2 / math.pi), 0.0, math.sqrt(2 / math.pi) * 0.044715)
ERF_INSIDE = (0.0, math.sqrt(0.5))
MAX_FACTORS = 6


@register
@dataclass(frozen=True)
class RecognizeGelu(RewritePass):
    """c * x * (1 + erf(x / sqrt(2))) -> gelu(x) * 2c;  with tanh(sqrt(2/pi) * (x + 0.044715 *
    x**3)) alike

    The factors may be multiplied in any order, and the polynomials written in any way.
    Keeps: reals within 1e-5.
    Source: Hendrycks & Gimpel, arXiv:1606.08415.
    """

    name: ClassVar[str] = "recognize-gelu"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Mul,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        c, parts = factors(at, op.result, op)
        if len(parts) != 2 or any(p.type != op.result.type for p in parts):
            return Miss(f"it has {len(parts)} factors besides constants, x and a gate are needed")
        for gate, x in (parts, parts[::-1]):
            inside, (shift, scale) = line(at, gate)
            inside_op = at.producer(inside)
            if not isinstance(inside_op, (Erf, Tanh)) or not is_close(shift, scale):
                continue
            formula = ERF_INSIDE if isinstance(inside_op, Erf) else TANH_INSIDE
            if not matches(polynomial(at, inside_op.x, x), formula):
                return Miss(f"the {inside_op.mnemonic} is not that of a gelu of x", inside.name)
            return scaled(op, Gelu(x, isinstance(inside_op, Tanh)), 2 * c * scale, at)
        return Miss("no factor is 1 + erf(...) or 1 + tanh(...)")


def factors(at: Site, value: Value, op: Op | None, depth: int = 3) -> tuple[float, list[Value]]:
    """value = c * the product of the list: products and quotients by a constant taken apart."""
    if (c := uniform(at, value)) is not None:
        return c, []
    if depth == 0 or not isinstance(op, (Mul, Div)):
        return 1.0, [value]
    if isinstance(op, Div):
        by = uniform(at, op.b)
        if not by:
            return 1.0, [value]
        c, parts = factors(at, op.a, at.producer(op.a), depth - 1)
        return c / by, parts
    c, parts = 1.0, []
    for v in (op.a, op.b):
        more, others = factors(at, v, at.producer(v), depth - 1)
        c, parts = c * more, parts + others
    return (c, parts) if len(parts) <= MAX_FACTORS else (1.0, [value])
