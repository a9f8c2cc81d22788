"""From queries, keys and values back to the linear ops that make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Linear, Rope, Slice
from qir.passes.infra.layers import constant_of, is_of_channels
from qir.passes.infra.manager import Miss


@dataclass(frozen=True)
class Chain:
    """The values from channels start to stop of a linear op's result to what attention reads."""

    layer: Linear
    start: int
    stop: int
    names: tuple[str, ...]


def chain_to(graph: Graph, value: Value) -> Chain | Miss:
    """The linear op whose channels a value has, through rope and slices of the last axis, with all
    values between read by the next alone.
    """
    names, start, stop = [value.name], 0, value.type.shape[-1]
    outputs = {v.name for v in graph.outputs}
    while True:
        name = names[-1]
        op, readers = graph.producers.get(name), graph.users.get(name, ())
        if name in outputs:
            return Miss("an output of the graph", name)
        if len(readers) > 1 and not all(map(is_of_channels, readers)):
            return Miss("something else reads it too", name)
        if isinstance(op, Linear):
            parts = [op.w, *((op.bias,) if op.bias is not None else ())]
            if any(constant_of(graph, p) is None or not p.type.is_float for p in parts):
                return Miss("its weights are not float constants", name)
            return Chain(op, start, stop, tuple(n for n in names if n != name))
        if isinstance(op, Slice) and is_of_channels(op):
            start, stop = op.start[-1] + start, op.start[-1] + stop
        elif not isinstance(op, Rope):
            return Miss("it comes from no linear op", name)
        names.append(op.x.name)


def pairs_of(graph: Graph, value: Value, size: int) -> Sequence[list[int]]:
    """The channels of a head that one rotation mixes; without rope each is alone."""
    op: Op | None = graph.producers.get(value.name)
    while isinstance(op, Slice):
        op = graph.producers.get(op.x.name)
    count = op.cos.type.shape[1] if isinstance(op, Rope) else 0
    is_interleaved = isinstance(op, Rope) and op.interleaved

    def channels() -> Iterator[list[int]]:
        for i in range(count):
            yield [2 * i, 2 * i + 1] if is_interleaved else [i, i + count]
        yield from ([i] for i in range(2 * count, size))

    return list(channels())
