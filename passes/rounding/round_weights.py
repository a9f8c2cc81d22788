"""What all passes that round weights anew have in common: tasks, and putting their results in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibration_state import graph_digest
from qir.passes.manager import Miss, Pass, Record
from qir.passes.rounding.moments import PARTS, layer_problem, moments
from qir.passes.rounding.stored_weights import (
    StoredWeights,
    layers_of,
    stored_weights,
    with_float_weights,
    with_weights,
)
from qir.passes.work import Processes, Store, Task, Tell, quiet, run_tasks

Function = Callable[..., Mapping[str, Array]]


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Base of the passes that choose stored weights by what they do to outputs, on a sample.

    Each layer or block is a task of its own, so all run at once. What it reads is what the
    simulated graph gives while the weights before it are still floats: these are nearer to the
    ones that come of it than weights rounded to nearest, and no layer makes up for errors that
    the one before it makes up for too.
    """

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()
    executor: Executor | None = field(default=None, compare=False)
    store: Store | None = field(default=None, compare=False)
    tell: Tell = field(default=quiet, compare=False)

    def on(
        self,
        reference: Graph,
        sample: tuple[Array, ...],
        executor: Executor | None = None,
        store: Store | None = None,
        tell: Tell = quiet,
    ) -> RoundWeights:
        """The same pass on a float graph and samples."""
        return replace(self, reference=reference, sample=sample,
                       executor=executor, store=store, tell=tell)  # fmt: skip

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        """The function that rounds a layer or block, and its arguments behind the first."""
        raise NotImplementedError(type(self).__name__)

    def solve(
        self, graph: Graph, seen: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Sequence[Mapping[str, Array]]:
        """New constants for the graph; `seen` is the graph whose values the layers read."""
        raise NotImplementedError(type(self).__name__)

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        known = [stored_weights(graph, self.reference, op) for op in layers_of(graph)]
        layers = [w for w in known if not isinstance(w, Miss)]
        seen = with_float_weights(graph, {w.reals: w.wanted for w in layers})
        with nullcontext(self.executor) if self.executor is not None else Processes() as pool:
            results = replace(self, executor=pool).solve(graph, seen, self.reference, layers)
        found = {name: array for result in results for name, array in result.items()}
        record.rewrites = len(layers)
        record.misses += [w for w in known if isinstance(w, Miss)]
        return with_weights(graph, found, self.name)

    def tasks(self, what: str, tasks: Sequence[Task]) -> Sequence[Mapping[str, Array]]:
        return run_tasks(f"{self.name}: {what}", tasks, self.executor, self.store, self.tell)

    @property
    def digest(self) -> str:
        """Of the samples, for the keys of tasks."""
        return hashlib.sha256(b"".join(x.tobytes() for x in self.sample)).hexdigest()


@dataclass(frozen=True)
class RoundLayers(RoundWeights):
    """Base of the passes that know each layer by the moments of what it reads."""

    def solve(
        self, graph: Graph, seen: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Sequence[Mapping[str, Array]]:
        names = tuple(w.layer for w in layers)
        part = -(-len(self.sample[0]) // PARTS)
        data = " ".join([graph_digest(seen), graph_digest(reference), self.digest])
        sums = self.tasks("moments", [
            Task(f"moments {i} {part} {data}", moments,
                 (seen, reference, names, tuple(x[i : i + part] for x in self.sample)))
            for i in range(0, len(self.sample[0]), part)
        ])  # fmt: skip
        function, options = self.work()
        of = f"{self.name} {options!r} {graph_digest(graph)} {data}"
        return self.tasks("layers", [
            Task(f"{of} {w.layer}", function, (layer_problem(w, sums), *options)) for w in layers
        ])  # fmt: skip
