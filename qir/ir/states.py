"""States: buffers that integer graphs keep from call to call; and what callers may give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qir.ir.errors import VerifyError
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.op import Value
from qir.ir.ops import Expand, Reshape, Transpose
from qir.ir.types import Array, Quant, integer_of

WHOLE = (Expand, Reshape, Transpose)
"""Ops whose result has every element of the operand and no other."""


@dataclass(frozen=True)
class Limit:
    """Every element of the caller's input number `index` is in [low, high]."""

    index: int
    low: int
    high: int


def caller_inputs(graph: Graph) -> tuple[Value, ...]:
    """The inputs that a caller gives: all but the states."""
    names = {before for before, _ in graph.states}
    return tuple(v for v in graph.inputs if v.name not in names)


def caller_outputs(graph: Graph) -> tuple[tuple[Value, str], ...]:
    """The outputs that a caller gets, with their names: all but the states, each of them once."""
    pairs = list(zip(graph.outputs, graph.output_names, strict=True))
    for _, after in graph.states:
        pairs.pop(max(i for i, (v, _) in enumerate(pairs) if v.name == after))
    return tuple(pairs)


def state_inputs(graph: Graph) -> tuple[Value, ...]:
    """The inputs that are states, in the order of the graph's states."""
    inputs = {v.name: v for v in graph.inputs}
    return tuple(inputs[before] for before, _ in graph.states)


def initial(value: Value) -> int:
    """What every element of a state holds before the first call: the stored integer of 0.

    Errors: VerifyError for a state of several zero points.
    """
    elem = value.type.elem
    zeros = np.unique(elem.zero_point.array) if isinstance(elem, Quant) else np.zeros(1, np.int64)
    if len(zeros) != 1:
        raise VerifyError(f"state {value}: {len(zeros)} zero points, one is needed")
    return int(zeros[0])


def limits(graph: Graph) -> tuple[Limit, ...]:
    """The inputs whose integers are bounded more tightly than their type: indexes of tables, and
    positions. Outside of them ops clip, which is no error of theirs but one of the caller.
    """
    origin = {v.name: v.name for v in graph.inputs}
    ranges: dict[str, tuple[int, int]] = {}
    for op in graph.ops:
        if isinstance(op, WHOLE) and op.operands[0].name in origin:
            origin[op.names[0]] = origin[op.operands[0].name]
        for operand, low, high in op.permitted():
            if (name := origin.get(operand.name)) is not None:
                least, most = ranges.get(name, (low, high))
                ranges[name] = max(low, least), min(high, most)
    return tuple(_narrower(graph, ranges))


def _narrower(graph: Graph, ranges: Mapping[str, tuple[int, int]]) -> Iterable[Limit]:
    for index, value in enumerate(caller_inputs(graph)):
        kind = integer_of(value.type.elem)
        if value.name not in ranges or kind is None:
            continue
        low, high = ranges[value.name]
        if low > high:
            raise VerifyError(
                f"input {value}: at least {low} and at most {high}, a value that can be is needed"
            )
        if low > kind.min or high < kind.max:
            yield Limit(index, max(low, kind.min), min(high, kind.max))


class StateMemory:
    """The states of integer graphs, kept by the interpreter from one call to the next.

    Graphs that have states of equal names and types share them.
    """

    def __init__(self, *graphs: Graph) -> None:
        self.arrays: dict[str, Array] = {}
        for value in shared_states(graphs):
            array = np.full(value.type.shape, initial(value), value.type.elem.carrier)
            self.arrays[value.name] = array

    def call(self, graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The caller's outputs of `graph` for the caller's inputs; the states are written."""
        caller = iter(inputs)
        names = {before for before, _ in graph.states}
        every = [self.arrays[v.name] if v.name in names else next(caller) for v in graph.inputs]
        outputs = interpret(graph, every)
        at = {v.name: y for v, y in zip(graph.outputs, outputs, strict=True)}
        self.arrays.update({before: at[after] for before, after in graph.states})
        return tuple(at[v.name] for v, _ in caller_outputs(graph))


def shared_states(graphs: Iterable[Graph]) -> tuple[Value, ...]:
    """The states of graphs that share them by name, each once, in the order they are met.

    Errors: VerifyError when one name has two types.
    """
    states: dict[str, Value] = {}
    for graph in graphs:
        for value in state_inputs(graph):
            state = states.setdefault(value.name, value)
            if state != value:
                raise VerifyError(
                    f"state {value}: {state.type} in one graph and {value.type} in another, one"
                    " type is needed"
                )
    return tuple(states.values())
