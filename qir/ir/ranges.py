"""Bounds of every stored value, and the proof that nothing in an integer graph overflows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qir.ir.bounds import Bounds, Extreme
from qir.ir.errors import VerifyError, listed
from qir.ir.graph import Graph
from qir.ir.op import Op
from qir.ir.ops import Constant, ScaleGroups
from qir.ir.types import Array, integer_of

Known = Any  # the array of a constant, the Bounds of anything else


@dataclass(frozen=True)
class OpRange:
    """An op, what its operands hold, and the bounds of its result."""

    op: Op
    args: list[Known]
    bound: Bounds


@dataclass(frozen=True)
class Claim:
    """One proven line: this intermediate of this op stays within its bits."""

    op: Op
    extreme: Extreme

    @property
    def text(self) -> str:
        low, high = self.extreme.bounds.whole
        return (
            f"{self.op}: {self.extreme.what} reaches [{low}, {high}], {self.extreme.bits} bits"
            " hold it"
        )


def ranges(graph: Graph) -> Iterator[OpRange]:
    """The bounds of each op's result, from inputs' storages and actual constants, in order."""
    known: dict[str, Known] = {v.name: Bounds.of_type(v.type) for v in graph.inputs}
    for op in graph.ops:
        args = op.unpack(tuple(known[v.name] for v in op.operands))
        bound = op.bound(*args)
        known[op.names[0]] = _array(op, args) if _is_known(op, args) else bound
        yield OpRange(op, args, bound)


def _is_known(op: Op, args: list[Known]) -> bool:
    """Whether the very elements of the result are known: contractions need those of weights."""
    if isinstance(op, ScaleGroups):
        return not any(isinstance(a, Bounds) for a in args)
    return isinstance(op, Constant)


def _array(op: Op, args: list[Known]) -> Array:
    found: Array = op.evaluate(*args)
    return found


def value_bounds(graph: Graph) -> Mapping[str, Bounds]:
    """The bounds of every value, by name."""
    found = {v.name: Bounds.of_type(v.type) for v in graph.inputs}
    found.update({r.op.names[0]: r.bound for r in ranges(graph)})
    return found


def prove_no_overflow(graph: Graph) -> tuple[Claim, ...]:
    """Every intermediate of every op stays within its bits, and every result within its storage.

    Errors: VerifyError that lists each op, the bound it can reach, and the limit.
    Source: data-free accumulator ranges as in QONNX; per channel and per intermediate: this
            project.
    """
    claims, faults = [], []
    for r in ranges(graph):
        kept = integer_of(r.op.result.type.elem)
        extremes = list(r.op.extremes(*r.args))
        if kept is not None and not isinstance(r.op, Constant):
            extremes.append(Extreme("result", r.bound, kept.bits + (not kept.is_signed)))
        for extreme in extremes:
            low, high = extreme.bounds.whole
            if extreme.fits:
                claims.append(Claim(r.op, extreme))
            else:
                faults.append(
                    f"{r.op}: {extreme.what} reaches [{low}, {high}], {extreme.bits} bits are there"
                )
    if faults:
        raise VerifyError(
            listed(f"graph @{graph.name}: {len(faults)} intermediates can overflow", faults),
            hint=(
                "fewer bits for weights or activations, or a smaller zero point, make the sums"
                " smaller"
            ),
        )
    return tuple(claims)
