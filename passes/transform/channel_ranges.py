"""What each channel of each value reaches on a few samples."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.errors import DataError
from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Constant
from qir.ir.types import Array
from qir.passes.calibrate.ranges import batches_of, chunk_of, chunks, cut, rows_of, run_chunk

SAMPLES = 512
ENOUGH = 32  # runs of which some are held back
ELEMENTS = 1 << 26  # of all samples held: 256 MiB of float32


def first_samples(
    graph: Graph, batches: Iterable[Any], most: int = SAMPLES
) -> tuple[tuple[Array, ...], Iterator[Any]]:
    """At most `most` samples of the data as one batch, and the data again from the start: data
    that can be read only once is kept for those samples alone. Large samples are fewer.
    Errors: DataError for data without a sample.
    """
    run_rows = rows_of(graph.inputs[0])
    most = max(
        run_rows, min(most, ELEMENTS // max(1, sum(v.type.size for v in graph.inputs) // run_rows))
    )
    source = iter(batches_of(batches))
    buffer = []

    def remembered() -> Iterator[Any]:
        for batch in source:
            buffer.append(batch)
            yield batch

    parts, count = [], 0
    for chunk in chunks(graph, remembered(), run_rows):
        parts.append(chunk)
        count += len(chunk[0])
        if count >= most:
            break
    if not parts:
        raise DataError("calibration data: no samples, at least one is needed")
    sample = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return sample, chain(buffer, source)


def held_back(
    graph: Graph, sample: tuple[Array, ...], most: int
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The sample in two parts: one to compute corrections from, and at most `most` runs, a quarter
    at most, to judge them; fewer than ENOUGH runs are in both.
    """
    run_rows = rows_of(graph.inputs[0])
    count = len(sample[0]) // run_rows
    if count < ENOUGH:
        return sample, cut(graph, sample, 0, most * run_rows)
    border = (count - min(most, count // 4)) * run_rows
    return cut(graph, sample, 0, border), cut(graph, sample, border, count * run_rows)


@dataclass(frozen=True)
class Reach:
    """max|x| of each channel over all but the last axis, of the two halves of a sample: (2, C);
    `count` elements of each channel are in a half.
    """

    halves: Array
    count: int

    @staticmethod
    def of_both(reach: npt.ArrayLike) -> Reach:
        """Of one array, (C,), for both halves."""
        return Reach(np.stack([np.asarray(reach, np.float64)] * 2), 1)

    @property
    def of_all(self) -> Array:
        """Over both halves, (C,)."""
        return np.asarray(self.halves.max(0))


class ReachOnDemand(Mapping[str, Reach]):
    """`channel_reach` of all values, computed when it is first asked for: a run of a large graph on
    the whole sample takes a while, and few graphs have layers that want it.
    """

    def __init__(self, graph: Graph, sample: tuple[Array, ...]) -> None:
        self.graph, self.sample = graph, sample

    @cached_property
    def _values(self) -> Mapping[str, Reach]:
        return channel_reach(self.graph, self.sample)

    def __getitem__(self, name: str) -> Reach:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def channel_reach(
    graph: Graph, sample: tuple[Array, ...], names: Container[str] | None = None
) -> Mapping[str, Reach]:
    """The bounds of each float value that is not constant, or of those called `names`, on every
    other run of the sample and on the runs between.
    """
    graph = graph if names is None else up_to(graph, names)
    constant = {n for op in graph.ops if isinstance(op, Constant) for n in op.names}
    halves: dict[str, list[Array]] = {}
    counts: dict[str, int] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in constant or not x.is_floating_point() or not x.dim() or not x.numel():
            return
        if names is not None and value.name not in names:
            return
        rows = x.abs().reshape(-1, x.shape[-1])
        bounds = halves.setdefault(value.name, [np.zeros(x.shape[-1]), np.zeros(x.shape[-1])])
        bounds[half] = np.maximum(bounds[half], rows.amax(0).double().numpy())
        counts[value.name] = counts.get(value.name, 0) + len(rows)

    size = chunk_of(graph)
    runs = [x.reshape(-1, *v.type.shape) for v, x in zip(graph.inputs, sample, strict=True)]
    for half in (0, 1):
        rows_of_half = slice(half if len(runs[0]) > 1 else 0, None, 2)
        part = tuple(
            x[rows_of_half].reshape(-1, *v.type.shape[1:])
            for v, x in zip(graph.inputs, runs, strict=True)
        )
        for i in range(0, len(part[0]), size):
            run_chunk(graph, cut(graph, part, i, i + size), watch)
    return {n: Reach(np.stack(each), max(1, counts[n] // 2)) for n, each in halves.items()}


def up_to(graph: Graph, names: Container[str]) -> Graph:
    """What the values called `names` are computed by: a head costs as much as several layers."""
    values = tuple(v for v in graph.values if v.name in names)
    outputs = tuple(v.name for v in values)
    return replace(graph, outputs=values, output_names=outputs, states=()).without_dead_code()
