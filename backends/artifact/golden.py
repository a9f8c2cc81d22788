"""Golden data: inputs with the interpreter's outputs, which every target must give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qir.ir.graph import Graph
from qir.ir.states import Limit, StateMemory, caller_inputs, caller_outputs, limits
from qir.ir.types import Array, integer_of

CASES = 2

Calls = Sequence[tuple[str, Sequence[Array]]]
"""The name of an entry and its inputs, call by call; a program without entries is named ""."""


def examples(graphs: Mapping[str, Graph]) -> Iterator[tuple[str, list[Array]]]:
    """Calls, the same each time: with random inputs, then with the least and greatest mixed."""
    rng = np.random.default_rng(0)
    for case in range(CASES):
        for entry, graph in graphs.items():
            bounds = {limit.index: limit for limit in limits(graph)}
            arrays = []
            for i, value in enumerate(caller_inputs(graph)):
                storage = integer_of(value.type.elem)
                assert storage is not None
                limit = bounds.get(i, Limit(i, storage.min, storage.max))
                choices = np.array([limit.low, limit.high]) if case % 2 else None
                array = (
                    rng.integers(limit.low, limit.high, value.type.shape, endpoint=True)
                    if choices is None
                    else rng.choice(choices, value.type.shape)
                )
                arrays.append(np.asarray(array, storage.carrier))
            yield entry, arrays


def recorded(graphs: Mapping[str, Graph], calls: Calls) -> bytes:
    """For each call the inputs and the interpreter's outputs, little endian; states are kept from
    call to call.
    """
    memory, parts = StateMemory(*graphs.values()), []
    for entry, inputs in calls:
        graph = graphs[entry]
        outputs = memory.call(graph, inputs)
        values = (*caller_inputs(graph), *(v for v, _ in caller_outputs(graph)))
        for array, value in zip((*inputs, *outputs), values, strict=True):
            little = value.type.elem.carrier.newbyteorder("<")
            parts.append(np.ascontiguousarray(array, little).tobytes())
    return b"".join(parts)
