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
        transpose = at.producer(flat.x)
        if not isinstance(transpose, Transpose):
            return Miss("the reshape's operand does not come from a transpose", flat.result.name)
        wrapped = at.producer(op.w)
        weights = at.producer(wrapped.x) if isinstance(wrapped, Dequantize) else wrapped
        if not isinstance(weights, Constant):
            return Miss("w is not a constant")
        columns = new_columns(flat, transpose)
        if columns is None:
            return Miss(
                f"perm {list(transpose.perm)} moves axes that stay apart", transpose.result.name
            )
        permuted = reordered_constant(weights, 1, columns)
        if permuted is None:
            return Miss("blocks of columns that share a scale would be torn apart", op.w.name)
        x = at.emit(Reshape(transpose.x, flat.shape, loc=flat.loc))
        for one in reversed(chain):
            x = at.emit(one.on(x))
        w = at.emit(permuted)
        if isinstance(wrapped, Dequantize):
            w = at.emit(replace(wrapped, x=w))
        return at.replace(replace(op, x=x, w=w), transpose)


def new_columns(flat: Reshape, transpose: Transpose) -> Array | None:
    """For each column of the flattened x without the transpose, the column it has with it.

    None when axes move that the reshape does not merge into its last one.
    """
    count = merged_axes(flat.x.type.shape, flat.shape)
    if count is None:
        return None
    outer = transpose.x.type.rank - count
    outer_perm = transpose.perm[:outer]
    if set(outer_perm) != set(range(outer)) or not is_free(transpose.x.type.shape, outer_perm):
        return None
    back = [transpose.perm.index(axis) - outer for axis in range(outer, transpose.x.type.rank)]
    inside = flat.x.type.shape[outer:]
    columns: Array = np.arange(flat.shape[-1]).reshape(inside).transpose(back).reshape(-1)
    return columns


def merged_axes(source: tuple[int, ...], target: tuple[int, ...]) -> int | None:
    """How many last axes of `source` make up the last one of `target`; None when it splits one."""
    size, product = target[-1] if target else 1, 1
    for count in range(len(source) + 1):
        if product == size and (count == len(source) or source[-1 - count] != 1):
            return count
        if count < len(source):
            product *= source[-1 - count]
    return None
