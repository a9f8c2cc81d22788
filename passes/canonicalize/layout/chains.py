"""Chains of functions of one element, which commute with every move."""

from __future__ import annotations

from qir.ir.op import Op, Value
from qir.passes.infra.rewriter import Site


def up_the_chain(at: Site, value: Value) -> tuple[list[Op], Op | None]:
    """Elementwise ops that nothing else reads, from `value` up, and the op before them."""
    chain: list[Op] = []
    while (op := at.producer(value)) is not None and op.is_pointwise and at.uses(value) == 1:
        chain.append(op)
        value = op.operands[0]
    return chain, op
