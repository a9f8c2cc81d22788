"""What all passes that round weights anew have in common: units, tasks, and putting results in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibration_state import graph_digest
from qir.passes.manager import Miss, Pass, Record
from qir.passes.rounding.reconstruct import Problem
from qir.passes.rounding.stored_weights import with_float_weights, with_weights
from qir.passes.rounding.units import Unit, layer_units, upstream
from qir.passes.work import Store, Task, Tell, quiet, run_tasks

Function = Callable[..., Mapping[str, Array]]


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Base of the passes that choose stored weights by what they do to outputs, on a sample.

    Each unit is a task of its own: its inputs are those that the simulated graph gives when the
    weights before it are still floats, its targets what the float graph gives. A second of
    `rounds` takes inputs as the weights of the first give them.
    """

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()
    rounds: int = 1
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
        data = {"reference": reference, "sample": sample}
        return replace(self, **data, executor=executor, store=store, tell=tell)

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        """The function of a Problem that rounds a unit, and its further arguments."""
        raise NotImplementedError(type(self).__name__)

    def units(self, graph: Graph, reference: Graph, misses: list[Miss]) -> list[Unit]:
        return layer_units(graph, reference, misses)

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        for number in range(self.rounds):
            graph = self._round(graph, self.reference, record, number)
        return graph

    def _round(self, graph: Graph, reference: Graph, record: Record, number: int) -> Graph:
        misses: list[Miss] = []
        units = self.units(graph, reference, misses)
        floats = {w.reals: w.wanted for u in units for w in u.layers}
        seen = graph if number else with_float_weights(graph, floats)
        tasks = [self._task(unit, seen, reference) for unit in units]
        results = run_tasks(self.name, tasks, self.executor, self.store, self.tell)
        found = {name: array for result in results for name, array in result.items()}
        record.rewrites = sum(len(unit.layers) for unit in units)
        record.misses += misses
        return with_weights(graph, found, self.name)

    def _task(self, unit: Unit, seen: Graph, reference: Graph) -> Task:
        before = upstream(seen, [v.name for v in unit.graph.inputs])
        after = upstream(reference, [v.name for v in unit.graph.outputs])
        problem = Problem(unit, before, after, self.sample)
        function, options = self.work()
        parts = (unit.graph, before, after)
        data = hashlib.sha256(b"".join(x.tobytes() for x in self.sample)).hexdigest()
        key = " ".join([self.name, repr(options), *map(graph_digest, parts), data])
        return Task(key, function, (problem, *options))
