"""What each channel of each value reaches on a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Constant
from qir.ir.types import Array
from qir.passes.calibrate.ranges import batches_of, chunk_of, chunks, cut, rows_of, run_chunk

SAMPLES = 512
ELEMENTS = 1 << 26  # of all samples held: 256 MiB of float32


def first_samples(
    graph: Graph, batches: Iterable[Any], most: int = SAMPLES
) -> tuple[tuple[Array, ...], Iterator[Any]]:
    """At most `most` samples of the data as one batch, and the data again from the start: data
    that can be read only once is kept for those samples alone. Large samples are fewer.
    """
    own = rows_of(graph.inputs[0])
    most = max(own, min(most, ELEMENTS // max(1, sum(v.type.size for v in graph.inputs) // own)))
    source = iter(batches_of(batches))
    held = []

    def remembered() -> Iterator[Any]:
        for batch in source:
            held.append(batch)
            yield batch

    parts, have = [], 0
    for chunk in chunks(graph, remembered(), own):
        parts.append(chunk)
        have += len(chunk[0])
        if have >= most:
            break
    sample = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return sample, chain(held, source)


def channel_reach(graph: Graph, sample: tuple[Array, ...]) -> Mapping[str, Array]:
    """max|x| over all but the last axis, for each float value that is not constant: (C,)."""
    constant = {n for op in graph.ops if isinstance(op, Constant) for n in op.names}
    found: dict[str, Array] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in constant or not x.is_floating_point() or not x.dim() or not x.numel():
            return
        reach = x.abs().reshape(-1, x.shape[-1]).amax(0).double().numpy()
        before = found.get(value.name)
        found[value.name] = reach if before is None else np.maximum(before, reach)

    size = chunk_of(graph)
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, cut(graph, sample, i, i + size), watch)
    return found
