"""Complex numbers of the run: pairs of reals between view_as_complex and view_as_real, as in rotary
embeddings that multiply by powers of e.
"""

from __future__ import annotations

import torch

from qir.frontends.torch.context import Complex, ImportContext, Number, Operand
from qir.frontends.torch.ops.indexing import select, stack
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Add, Mul, Sub


@imports("aten.view_as_complex.default")
def view_as_complex(ctx: ImportContext, x: Operand) -> Complex:
    """x (..., 2) -> x[..., 0] + i * x[..., 1]"""
    return Complex(*(select(ctx, x, -1, k) for k in (0, 1)))


@imports("aten.view_as_real.default")
def view_as_real(ctx: ImportContext, x: Operand) -> Value:
    if not isinstance(x, Complex):
        raise Unsupported("view_as_real of reals", "complex numbers are needed")
    return stack(ctx, (x.real, x.imag), -1)


def product(ctx: ImportContext, a: Operand | Number, b: Operand | Number) -> Complex:
    """(a.re * b.re - a.im * b.im) + i * (a.re * b.im + a.im * b.re)"""
    (p, q), (r, s) = (parts(ctx, x) for x in (a, b))
    if q is None or s is None:
        (p, q), r = ((r, s), p) if q is None else ((p, q), r)
        assert q is not None  # one of them is complex
        return Complex(ctx.add(Mul(p, r)), ctx.add(Mul(q, r)))
    real = ctx.add(Sub(ctx.add(Mul(p, r)), ctx.add(Mul(q, s))))
    return Complex(real, ctx.add(Add(ctx.add(Mul(p, s)), ctx.add(Mul(q, r)))))


def parts(ctx: ImportContext, x: Operand | Number) -> tuple[Value, Value | None]:
    """The real and the imaginary part; None where it is 0."""
    if isinstance(x, Complex):
        return x.real, x.imag
    if isinstance(x, torch.Tensor) and x.is_complex():
        return ctx.value(x.real.clone()), ctx.value(x.imag.clone())
    return ctx.value(x), None
