"""What all passes that round weights anew have in common: tasks, and putting their results in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibration_state import graph_digest
from qir.passes.manager import Miss, Pass, Record
from qir.passes.rounding.moments import PARTS, moment_names, moments
from qir.passes.rounding.round_layer import round_layer
from qir.passes.rounding.stored_weights import (
    StoredWeights,
    layers_of,
    stored_weights,
    with_float_weights,
    with_weights,
)
from qir.passes.rounding.units import upstream
from qir.passes.work import Processes, Store, Task, Tell, quiet, run_tasks

Function = Callable[..., Mapping[str, Array]]


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Base of the passes that choose stored weights by what they do to outputs, on a sample.

    The layers are taken in `waves`, one part of the network after the other. Within a wave each
    layer or block is a task of its own, so all run at once: what it reads is what the network gives
    with the waves before rounded and the weights of its own still floats. With one wave each makes
    up for its own rounded weights alone; with more, also for how what it reads differs from the
    float graph, which no other may do too: with as many waves as layers none does.
    """

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()
    waves: int = 1
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
        """New constants for the graph; `seen` is the graph whose values the layers read, and
        `reference` the one whose values theirs are to be.
        """
        raise NotImplementedError(type(self).__name__)

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        if self.waves < 1:
            raise PassError(f"{self.name}: waves is {self.waves}, 1 or more is needed")
        known = [stored_weights(graph, self.reference, op) for op in layers_of(graph)]
        left = [w for w in known if not isinstance(w, Miss)]
        record.rewrites = len(left)
        record.misses += [w for w in known if isinstance(w, Miss)]
        size = max(1, -(-len(left) // self.waves))
        with nullcontext(self.executor) if self.executor is not None else Processes() as pool:
            here = replace(self, executor=pool)
            while left:
                seen = with_float_weights(graph, {w.reals: w.wanted for w in left})
                aim = seen if self.waves == 1 else self.reference
                results = here.solve(graph, seen, aim, left[:size])
                found = {name: array for result in results for name, array in result.items()}
                graph, left = with_weights(graph, found, self.name), left[size:]
        return graph

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
        parts = tuple(upstream(g, names) for g in (seen, reference))
        size = -(-len(self.sample[0]) // PARTS)
        data = " ".join([*map(graph_digest, parts), *names, self.digest])
        sums = self.tasks("moments", [
            Task(f"moments {i} {size} {data}", moments,
                 (*parts, names, tuple(x[i : i + size] for x in self.sample)))
            for i in range(0, len(self.sample[0]), size)
        ])  # fmt: skip
        function, options = self.work()
        of = f"{self.name} {options!r} {graph_digest(graph)} {data}"
        return self.tasks("layers", [
            Task(f"{of} {w.layer}", round_layer, (w, _own(sums, w.layer), function, *options))
            for w in layers
        ])  # fmt: skip


def _own(sums: Sequence[Mapping[str, Array]], layer: str) -> list[Mapping[str, Array]]:
    """Of the moments of all layers those of one."""
    return [{key: part[key] for key in moment_names(layer)} for part in sums]
