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
from qir.ir.types import integer_of

Known = Any  # the array of a constant, the Bounds of anything else


@dataclass(frozen=True)
class OpRange:
    """An op, the bounds of its operands, and the bounds of its results."""

    op: Op
    args: list[Known]
    bounds: tuple[Bounds, ...]


@dataclass(frozen=True)
class Intermediate:
    """A sum or product inside an op, proven to stay within its integer type."""

    op: Op
    extreme: Extreme

    @property
    def text(self) -> str:
        low, high = self.extreme.bounds.ends
        return (
            f"{self.op}: {self.extreme.what} reaches [{low}, {high}], {self.extreme.kind} holds it"
        )


def ranges(graph: Graph) -> Iterator[OpRange]:
    """The bounds of each op's results, from inputs' storages and actual constants, in order."""
    facts: dict[str, Known] = {v.name: Bounds.of_type(v.type) for v in graph.inputs}
    for op in graph.ops:
        yield range_of(op, facts)


def range_of(op: Op, facts: dict[str, Known]) -> OpRange:
    """The bounds of one op's results from those of its operands; its results are added."""
    operands = tuple(facts[v.name] for v in op.operands)
    if not op.reads_elements:
        operands = tuple(map(Bounds.of_known, operands))
    args = op.unpack(operands)
    bound = op.bound(*args)
    bounds = bound if isinstance(bound, tuple) else (bound,)
    facts.update(zip(op.names, bounds, strict=True))
    if isinstance(op, Constant | ScaleGroups) and not any(isinstance(a, Bounds) for a in args):
        facts[op.names[0]] = op.evaluate(*args)  # contractions need the elements of weights
    return OpRange(op, args, bounds)


def value_bounds(graph: Graph) -> Mapping[str, Bounds]:
    """The bounds of every value, by name."""
    bounds = {v.name: Bounds.of_type(v.type) for v in graph.inputs}
    for r in ranges(graph):
        bounds.update(zip(r.op.names, r.bounds, strict=True))
    return bounds


def extremes_of(r: OpRange) -> Iterator[Extreme]:
    """Every intermediate of an op, then each result in its storage."""
    yield from r.op.extremes(*r.args)
    if isinstance(r.op, Constant):
        return  # its elements are in its storage: infer() looks
    for value, bounds in zip(r.op.results, r.bounds, strict=True):
        storage = integer_of(value.type.elem)
        if storage is not None:
            title = "result" if len(r.bounds) == 1 else f"result {value}"
            yield Extreme(title, bounds, storage)


def prove_no_overflow(graph: Graph) -> tuple[Intermediate, ...]:
    """Every intermediate of every op stays within its type, and every result within its storage.

    Errors: VerifyError that lists each op, the bound it can reach, and the limit.
    Source: data-free accumulator ranges as in QONNX; per channel and per intermediate: this
            project.
    """
    intermediates, faults = [], []
    for r in ranges(graph):
        for extreme in extremes_of(r):
            low, high = extreme.bounds.ends
            if extreme.fits:
                intermediates.append(Intermediate(r.op, extreme))
            else:
                faults.append(
                    f"{r.op}: {extreme.what} reaches [{low}, {high}], {extreme.kind} does not hold"
                    " it"
                )
    if faults:
        raise VerifyError(
            listed(f"graph @{graph.name}: {len(faults)} intermediates can overflow", faults),
            hint=(
                "fewer bits for weights or activations, or a smaller zero point, make the sums"
                " smaller"
            ),
        )
    return tuple(intermediates)
