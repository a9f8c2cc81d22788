"""Fold a transpose before a flattening into the columns of the linear layer after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Dequantize, Linear, Reshape, Transpose
from qir.ir.types import Array
from qir.passes.canonicalize.layout.chains import up_the_chain
from qir.passes.canonicalize.layout.permutations import is_free, reordered_constant
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class PermuteColumns(RewritePass):
    """linear(f(reshape(transpose(x))), w) -> linear(f(reshape(x)), w with its columns in x's order)

    Where the transpose moves only axes that the reshape merges into the last one, f is any chain of
    functions of one element each (quantize and dequantize too), and w is a constant, dequantized or
    not; scales of columns, and of blocks of columns, are permuted with them.
    Keeps: reals within 1e-5 (the same products, summed in another order).
    """

    name: ClassVar[str] = "permute-columns"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Linear,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, Linear)
        chain, flat = up_the_chain(at, op.x)
        if not isinstance(flat, Reshape):
            return Miss("x does not come from a reshape")
        moved = at.producer(flat.x)
        if not isinstance(moved, Transpose):
            return Miss("the reshape's operand does not come from a transpose", flat.result.name)
        wrapped = at.producer(op.w)
        weights = at.producer(wrapped.x) if isinstance(wrapped, Dequantize) else wrapped
        if not isinstance(weights, Constant):
            return Miss("w is not a constant")
        columns = new_columns(flat, moved)
        if columns is None:
            return Miss(f"perm {list(moved.perm)} moves axes that stay apart", moved.result.name)
        permuted = reordered_constant(weights, 1, columns)
        if permuted is None:
            return Miss("blocks of columns that share a scale would be torn apart", op.w.name)
        x = at.emit(Reshape(moved.x, flat.shape, loc=flat.loc))
        for one in reversed(chain):
            x = at.emit(one.on(x))
        w = at.emit(permuted)
        if isinstance(wrapped, Dequantize):
            w = at.emit(replace(wrapped, x=w))
        return at.replace(replace(op, x=x, w=w), moved)


def new_columns(flat: Reshape, moved: Transpose) -> Array | None:
    """For each column of the flattened x without the transpose, the column it has with it.

    None when axes move that the reshape does not merge into its last one.
    """
    merged = merged_axes(flat.x.type.shape, flat.shape)
    if merged is None:
        return None
    lead = moved.x.type.rank - merged
    kept = moved.perm[:lead]
    if set(kept) != set(range(lead)) or not is_free(moved.x.type.shape, kept):
        return None
    back = [moved.perm.index(axis) - lead for axis in range(lead, moved.x.type.rank)]
    inside = flat.x.type.shape[lead:]
    columns: Array = np.arange(flat.shape[-1]).reshape(inside).transpose(back).reshape(-1)
    return columns


def merged_axes(source: tuple[int, ...], target: tuple[int, ...]) -> int | None:
    """How many last axes of `source` make up the last one of `target`; None when it splits one."""
    wanted, product = target[-1] if target else 1, 1
    for count in range(len(source) + 1):
        if product == wanted and (count == len(source) or source[-1 - count] != 1):
            return count
        if count < len(source):
            product *= source[-1 - count]
    return None
