"""Calibration: runs a float graph on streamed batches and observes every value."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qir.ir.data import unmasked
from qir.ir.errors import DataError
from qir.ir.graph import Graph
from qir.ir.op import Interval, Value
from qir.ir.ops import Constant, Softmax
from qir.ir.torch_executor import FloatProgram, Watch
from qir.ir.types import Array, integer_of
from qir.passes.calibrate.limits import EVERYWHERE, limits
from qir.passes.calibrate.observers import Histogram, Observation, Observer, observer_of
from qir.passes.calibrate.state import State, graph_digest, resumed
from qir.passes.infra.manager import Miss
from qir.passes.infra.rebatch import rebatch

LIVE_ELEMENTS = 1 << 25  # of one op's operands and results: 128 MiB of float32
LARGEST_CHUNK = 256
FAR = 1024.0  # below the greatest of a softmax's operand: masks are, scores are not
SAVE_EVERY = 2.0  # seconds between saves, at least
SAVE_SHARE = 20  # times what a save takes, at least

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Ranges:
    """The observations of each value, the observer that estimates ranges from them, and the range
    that readers distinguish, for values that need not be distinguished beyond it.
    """

    observations: Mapping[str, Observation]
    observer: Observer
    samples: int
    limits: Mapping[str, Interval] = field(default_factory=dict)

    def of(self, names: Iterable[str], levels: int) -> tuple[float, float]:
        """The range that `levels` stored integers shared by these values shall cover."""
        return self.observer.range(self.seen_of(names), levels)

    def seen_of(self, names: Iterable[str]) -> Observation:
        """What was seen of these values together, where it matters."""
        total = Observation()
        for i, name in enumerate(names):
            if name not in self.observations:
                raise DataError(
                    f"calibration: value %{name} was not observed, ranges of this graph are needed"
                )
            one = self.observations[name].within(self.limits.get(name, EVERYWHERE))
            total = one if i == 0 else total.merged(one)
        return total

    def with_observer(self, observer: str | Observer) -> Ranges:
        """The same observations, another choice, which may need histograms."""
        new = observer_of(observer)
        if new.needs_histogram and not self.observer.needs_histogram:
            raise DataError(
                f"calibration: {type(self.observer).__name__} kept no histograms,"
                f" {type(new).__name__} needs them"
            )
        return Ranges(self.observations, new, self.samples, self.limits)


def calibrate(
    graph: Graph,
    batches: Iterable[Any],
    observer: str | Observer = "mse",
    state: str | Path | None = None,
    progress: Progress | None = None,
) -> Ranges:
    """Run a float graph on `batches` and observe every value.

    Each batch is an array (a tuple of one for each input, or a mapping from their names) of any
    number of samples; one array or mapping alone is one batch. Memory is bounded: samples are fed
    in chunks, values are reduced to histograms at once. `state` names a file that an interrupted
    calibration, given the same batches again, resumes from. `progress` is called with the number of
    samples done.

    Errors: DataError for no data, another shape or dtype, NaN or Inf (with the batch), and a state
    file of another graph or other data.
    """
    estimator, path = observer_of(observer), None if state is None else Path(state)
    initial = State(graph_digest(graph), chunk_of(graph), estimator.needs_histogram)
    current = resumed(path, initial)
    feeder, digest, position = Feeder(graph, current), hashlib.sha256(), 0
    saver = Saver(path)
    for chunk in chunks(graph, batches, current.chunk):
        for x in chunk:
            digest.update(x.tobytes())
        start, position = position, position + len(chunk[0])
        if start < current.samples:  # seen before the interruption
            if position > current.samples or (
                position == current.samples and digest.hexdigest() != current.data
            ):
                raise other_data(path, current)
            continue
        feeder.feed(chunk)
        current.samples, current.data = position, digest.hexdigest()
        saver.sometimes(current)
        if progress is not None:
            progress(position)
    if position == 0:
        raise DataError("calibration data: no samples, at least one is needed")
    if position < current.samples:
        raise other_data(path, current)
    saver.at_once(current)
    observations = current.observations
    return Ranges(observations, estimator, current.samples, limits(graph, observations))


class Saver:
    """Writes the state now and then, never for a large share of the time."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.last, self.cost = path, time.monotonic(), 0.0

    def sometimes(self, state: State) -> None:
        if time.monotonic() - self.last > max(SAVE_EVERY, SAVE_SHARE * self.cost):
            self.at_once(state)

    def at_once(self, state: State) -> None:
        if self.path is not None:
            start = time.monotonic()
            state.save(self.path)
            self.last = time.monotonic()
            self.cost = self.last - start


def other_data(path: Path | None, state: State) -> DataError:
    return DataError(
        f"calibration state {path}: made from other data, the same first {state.samples} samples"
        " are needed",
        hint="delete the file to start again",
    )


class Feeder:
    """Runs chunks through the graph, rebatched for each size, and updates the observations."""

    def __init__(self, graph: Graph, state: State) -> None:
        self.graph, self.state = graph, state
        self._constant = {n for op in graph.ops if isinstance(op, Constant) for n in op.names}
        self._in_rows = {op.x.name for op in graph.ops if isinstance(op, Softmax)}
        self._programs: dict[int, FloatProgram | None] = {}

    def feed(self, chunk: Sequence[Array]) -> None:
        run_chunk(self.graph, chunk, self._watch, self._programs)

    def _watch(self, value: Value, x: Any) -> None:
        if value.name in self._constant or not x.is_floating_point() or not x.numel():
            return
        low, high = (float(end) for end in torch.aminmax(x))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                f"calibration: value {value} reaches [{low:g}, {high:g}] after"
                f" {self.state.samples} samples, finite values are needed"
            )
        observation = self.state.observations.setdefault(value.name, Observation())
        observation.count += x.numel()
        observation.low, observation.high = min(observation.low, low), max(observation.high, high)
        if value.name in self._in_rows:
            tops = x.amax(-1)
            near = tops >= tops.max() - FAR  # a row that is masked throughout has no top
            observation.least_top = min(observation.least_top, float(tops[near].min()))
        if self.state.histograms:
            if observation.histogram is None:
                observation.histogram = Histogram()
            observation.histogram.add(torch, x, max(-low, high))


def run_chunk(
    graph: Graph,
    chunk: Sequence[Array],
    watch: Watch,
    programs: dict[int, FloatProgram | None] | None = None,
) -> None:
    """Run a float graph on any number of samples, at once where it can be rebatched; `programs`
    caches the rebatched graphs.
    """
    factor = len(chunk[0]) // rows_of(graph.inputs[0])
    cache: dict[int, FloatProgram | None] = {} if programs is None else programs
    with torch.no_grad():
        if (batched := remade(graph, factor, cache)) is not None:
            batched(*chunk, watch=watch)
            return
        one = remade(graph, 1, cache)
        assert one is not None
        for i in range(factor):
            single = run_of(graph, chunk, i)
            one(*single, watch=watch)


def remade(
    graph: Graph, factor: int, programs: dict[int, FloatProgram | None]
) -> FloatProgram | None:
    """The graph for `factor` times its batch, ready to run; None when it cannot be remade."""
    if factor not in programs:
        larger = graph if factor == 1 else rebatch(graph, factor)
        programs[factor] = None if isinstance(larger, Miss) else FloatProgram(larger)
    return programs[factor]


def batches_of(data: Any) -> Iterable[Any]:
    """Batches one by one; an array or a mapping alone is one batch."""
    return [data] if isinstance(data, Mapping) or hasattr(data, "shape") else data


def rows_of(value: Value) -> int:
    """The rows that one run takes of the array of an input; of a scalar one, (runs,) in all."""
    return value.type.shape[0] if value.type.rank else 1


def cut(graph: Graph, sample: Sequence[Array], start: int, stop: int) -> tuple[Array, ...]:
    """The part of a sample from `start` to `stop`, counted in rows of the first input."""
    run_rows = rows_of(graph.inputs[0])
    return tuple(
        x[start * rows_of(v) // run_rows : stop * rows_of(v) // run_rows]
        for v, x in zip(graph.inputs, sample, strict=True)
    )


def run_of(graph: Graph, sample: Sequence[Array], i: int) -> tuple[Array, ...]:
    """The inputs of run `i`, in the shapes of the graph."""
    run_rows = rows_of(graph.inputs[0])
    part = cut(graph, sample, i * run_rows, (i + 1) * run_rows)
    return tuple(x.reshape(v.type.shape) for v, x in zip(graph.inputs, part, strict=True))


def chunk_of(graph: Graph) -> int:
    """How many samples to feed at once: as many as keep the largest op's values bounded."""
    run_rows = rows_of(graph.inputs[0]) if graph.inputs else 1
    most = max(
        (sum(v.type.size for v in (*op.operands, *op.results)) for op in graph.ops), default=1
    )
    return run_rows * max(1, min(LARGEST_CHUNK, LIVE_ELEMENTS // max(most, 1)))


def chunks(graph: Graph, batches: Iterable[Any], size: int) -> Iterator[tuple[Array, ...]]:
    """The samples of all batches, `size` rows of the first input at a time, the rest at the end.

    Errors: DataError that names the batch and what is wrong with it.
    """
    run_rows = rows_of(graph.inputs[0])
    waiting: list[tuple[Array, ...]] = []
    filled = 0
    for number, batch in enumerate(batches_of(batches)):
        arrays = checked(graph, batch, number)
        start, count = 0, len(arrays[0])
        while start < count:
            rows = min(size - filled, count - start)
            waiting.append(cut(graph, arrays, start, start + rows))
            start, filled = start + rows, filled + rows
            if filled == size:
                yield concatenate(waiting)
                waiting, filled = [], 0
    if filled:
        if filled % run_rows:
            raise DataError(
                f"calibration data: {filled % run_rows} samples left over, a multiple of"
                f" {run_rows} is needed"
            )
        yield concatenate(waiting)


def concatenate(parts: Sequence[Sequence[Array]]) -> tuple[Array, ...]:
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def checked(graph: Graph, batch: Any, number: int) -> list[Array]:
    """The arrays of one batch, in the order and the dtypes of the graph's inputs.

    A batch is an array, a sequence of one for each input, or a mapping from inputs' names. Each
    holds the rows of the same number of runs; a number for a scalar input is that of one run.
    """
    where = f"calibration batch {number}"
    arrays = [
        checked_array(value, x, where)
        for value, x in zip(graph.inputs, by_input(graph, batch, where), strict=True)
    ]
    counts = [len(a) for a in arrays]
    run_rows = [rows_of(v) for v in graph.inputs]
    if any(n * run_rows[0] != counts[0] * o for n, o in zip(counts, run_rows, strict=True)):
        raise DataError(f"{where}: {counts} samples, {_proportion(run_rows)} are needed")
    if len(set(run_rows)) > 1 and counts[0] % run_rows[0]:
        raise DataError(f"{where}: {counts} samples, multiples of {run_rows} are needed")
    return arrays


def _proportion(run_rows: Sequence[int]) -> str:
    return "as many for each" if len(set(run_rows)) == 1 else f"multiples of {list(run_rows)}"


def by_input(graph: Graph, batch: Any, where: str) -> list[Any]:
    """The arrays of a batch in the order of the inputs."""
    names = [v.name for v in graph.inputs]
    if isinstance(batch, Mapping):
        if set(batch) != set(names):
            raise DataError(
                f"{where}: arrays for {', '.join(map(str, batch))}; {', '.join(names)} are needed"
            )
        return [batch[name] for name in names]
    arrays = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    if len(arrays) != len(names):
        raise DataError(f"{where}: {len(arrays)} arrays, {len(names)} inputs are needed")
    return arrays


def checked_array(value: Value, x: Any, where: str) -> Array:
    """One array in the dtype of its input; a number becomes an array of one."""
    try:
        a = unmasked(x.detach().cpu() if hasattr(x, "detach") else x, f"{where} for input {value}")
    except (TypeError, ValueError, RuntimeError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise DataError(
            f"{where}: a {type(x).__name__} for input {value} that is no array ({reason}), one of"
            " numbers is needed"
        ) from e
    storage = integer_of(value.type.elem)
    if a.dtype.kind not in ("iu" if storage is not None else "fiu"):
        raise DataError(f"{where}: dtype {a.dtype} for input {value}, {value.type} is needed")
    if not value.type.rank:
        a = a.reshape(1) if not a.ndim else a
    inner = value.type.shape[1:]
    if a.ndim != max(1, value.type.rank) or a.shape[1:] != inner:
        raise DataError(
            f"{where}: shape {list(a.shape)} for input {value},"
            f" any number of {list(inner)} is needed"
        )
    with np.errstate(over="ignore"):  # what is beyond float32 is refused as infinite
        a = a.astype(np.int64 if storage is not None else value.type.elem.carrier)
    if storage is None and not np.isfinite(a).all():
        faulty = int(np.count_nonzero(~np.isfinite(a)))
        raise DataError(
            f"{where}: {faulty} NaN or infinite of {a.size} elements for input {value},"
            " finite ones are needed"
        )
    return a
