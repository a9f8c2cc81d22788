"""Merge chains of data movement into one op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.axes import compose
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Expand, Gather, Reshape, Slice, Transpose
from qir.ir.ops.elementwise import Binary
from qir.passes.canonicalize.layout.chains import up_the_chain
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class MergeMoves(RewritePass):
    """move(move(x)) -> one move of x

    1. reshape(reshape(x)) -> reshape(x); transpose(transpose(x)) -> transpose(x)
    2. slice(slice(x)) -> slice(x); expand(expand(x)) -> expand(x)
    3. gather(x, [a, a + k, a + 2k, ...]) -> slice(x), k > 0; one index -> slice, then reshape
    4. concat(slice(x), slice(x), ...), one after another without a gap -> x, or one slice of it
    5. slice(concat(..., y, ...)) that lies within y -> slice(y)
    6. concat(concat(x, y), z) on one axis -> concat(x, y, z)
    7. reshape(f(reshape(x))) -> f(reshape(x)), f a chain of functions of one element each
    8. add(x, expand(y)), and its like, where broadcasting does the same -> add(x, y)
    Keeps: every bit.
    """

    name: ClassVar[str] = "merge-moves"
    claim: ClassVar[Claim] = KEEPS_BITS
    roots: ClassVar[tuple[type[Op], ...]] = (
        Reshape, Transpose, Slice, Expand, Gather, Concat, Binary,
    )  # fmt: skip

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        match op:
            case Reshape():
                return one_reshape(op, at)
            case Transpose():
                if isinstance(inner := at.producer(op.x), Transpose):
                    return at.replace(Transpose(inner.x, compose(inner.perm, op.perm)), inner)
                return Miss("x does not come from a transpose")
            case Expand():
                if isinstance(inner := at.producer(op.x), Expand):
                    return at.replace(replace(op, x=inner.x), inner)
                return Miss("x does not come from an expand")
            case Slice():
                return one_slice(op, at)
            case Gather():
                return as_slice(op, at)
            case Concat():
                return one_concat(op, at)
            case Binary():
                return without_expand(op, at)
        return Miss("no move")


def one_reshape(op: Reshape, at: Site) -> Value | Miss:
    chain, inner = up_the_chain(at, op.x)
    if not isinstance(inner, Reshape):
        return Miss("x does not come from a reshape")
    if not chain:
        return at.replace(replace(op, x=inner.x), inner)
    x = at.emit(Reshape(inner.x, op.shape, loc=inner.loc))
    for one in reversed(chain[1:]):
        x = at.emit(one.on(x))
    return at.replace(chain[0].on(x), op, inner)


def one_slice(op: Slice, at: Site) -> Value | Miss:
    inner = at.producer(op.x)
    if isinstance(inner, Slice):
        outer = list(zip(op.start, op.stop, op.step, strict=True))
        ranges = [
            (b + s * k, b + (e - 1) * k + 1, k * t) if e > s else (b, b, 1)
            for (s, e, t), b, k in zip(outer, inner.start, inner.step, strict=True)
        ]
        start, stop, step = zip(*ranges, strict=True) if ranges else ((), (), ())
        return at.replace(Slice(inner.x, tuple(start), tuple(stop), tuple(step)), inner)
    if isinstance(inner, Concat):
        first = 0
        for x in inner.xs:
            size, axis = x.type.shape[inner.axis], inner.axis
            if first <= op.start[axis] and op.stop[axis] <= first + size:
                start = tuple(s - first * (a == axis) for a, s in enumerate(op.start))
                stop = tuple(s - first * (a == axis) for a, s in enumerate(op.stop))
                return at.replace(Slice(x, start, stop, op.step), inner)
            first += size
        return Miss("it takes from several operands of the concat", inner.result.name)
    return Miss("x comes from neither a slice nor a concat")


def as_slice(op: Gather, at: Site) -> Value | Miss:
    index, shape = op.index.array.astype(np.int64).reshape(-1), op.x.type.shape
    if not index.size:
        return Miss("no index")
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if step < 1 or np.any(np.diff(index) != step):
        return Miss("its indices are not an ascending row of even steps")
    start = tuple(int(index[0]) if a == op.axis else 0 for a in range(len(shape)))
    stop = tuple(int(index[-1]) + 1 if a == op.axis else s for a, s in enumerate(shape))
    window = Slice(op.x, start, stop, tuple(step if a == op.axis else 1 for a in range(len(shape))))
    if op.index.array.ndim == 1:
        return at.replace(window)
    return at.replace(Reshape(at.emit(window), op.result.type.shape))


def one_concat(op: Concat, at: Site) -> Value | Miss:
    inner = [at.producer(v) for v in op.xs]
    if any(isinstance(i, Concat) and i.axis == op.axis and at.uses(i.result) == 1 for i in inner):
        xs: list[Value] = []
        for v, i in zip(op.xs, inner, strict=True):
            flat = isinstance(i, Concat) and i.axis == op.axis and at.uses(v) == 1
            xs += i.xs if flat and isinstance(i, Concat) else (v,)
        return at.replace(replace(op, xs=tuple(xs)), *(i for i in inner if isinstance(i, Concat)))
    slices = [i for i in inner if isinstance(i, Slice)]
    if len(slices) != len(inner) or len({s.x.name for s in slices}) != 1:
        return Miss("its operands are not slices of one value")
    first, last, axis = slices[0], slices[-1], op.axis
    for s, following in zip(slices, (*slices[1:], None), strict=True):
        if any(k != 1 for k in s.step):
            return Miss(f"a slice has steps {list(s.step)}, 1 is needed", s.result.name)
        rest = [
            (s.start[a], s.stop[a]) == (first.start[a], first.stop[a]) for a in range(len(s.step))
        ]
        if not all(is_same for a, is_same in enumerate(rest) if a != axis):
            return Miss("the slices differ on another axis", s.result.name)
        if following is not None and s.stop[axis] != following.start[axis]:
            return Miss("the slices do not follow one another", s.result.name)
    stop = tuple(last.stop[a] if a == axis else e for a, e in enumerate(first.stop))
    return at.replace(Slice(first.x, first.start, stop, first.step), *slices)


def without_expand(op: Binary, at: Site) -> Value | Miss:
    for wide in (op.a, op.b):
        inner = at.producer(wide)
        if isinstance(inner, Expand):
            narrow = op.rebind(swap(wide, inner.x))
            if narrow.infer() == op.result.type:
                return at.replace(narrow, inner)
    return Miss("no operand comes from an expand that broadcasting replaces")


def swap(old: Value, new: Value) -> Callable[[Value], Value]:
    return lambda v: new if v == old else v
