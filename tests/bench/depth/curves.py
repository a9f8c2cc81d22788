"""Nats a token by the number of sub-layers left out, and by the layers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from qir.backends.targets import find
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.infra.manager import Manager
from qir.passes.infra.tasks import Result, Store, Task, quiet, run_tasks
from qir.passes.transform.depth.choose_groups import choose_groups
from qir.passes.transform.depth.distances import Distance, nats
from qir.passes.transform.depth.group_layers import GroupLayers, layers_of
from qir.passes.transform.depth.requests import GREEDY, INFLUENCE, ONE_SHOT, Shallower, titles
from qir.passes.transform.depth.search import PARTS, Search, mean_cosines
from qir.passes.transform.depth.trial import Trial
from qir.quantize import Quantizer
from qir.stages import Stages
from tests.bench.depth.subjects import Subject

Groups = tuple[tuple[int, ...], ...]
BYPASSES = (0, 1, 2, -1)


@dataclass(frozen=True)
class Curves:
    """calibration: rows to search on; evaluation: rows to judge on; threads: tasks at once."""

    subject: Subject
    calibration: Array
    evaluation: Array
    store: Store
    threads: int = 1

    def removals(
        self, by: str, distance: Distance, count: int, width: int | None
    ) -> Iterator[dict[str, Any]]:
        """For each count from 1 on the sub-layers that are left out, and nats above the float."""
        names = titles(self.subject.parts)
        for gone in self._chosen(by, distance, count, width):
            yield {
                "by": by, "distance": distance.value, "count": len(gone),
                "names": [names[name] for name in gone], "nats": self._lost(gone),
            }  # fmt: skip

    def groups(self, members: int, most: int) -> Iterator[dict[str, Any]]:
        """For each number of groups from 1 on and each bypass the layers side by side, and nats
        above the float.
        """
        every = layers_of(self.subject.graph, "bench")
        pairs = {str(i): (a[0].stream.name, b[0].stream.name)
                 for i, (a, b) in enumerate(pairwise(every))}  # fmt: skip
        alike = mean_cosines(self.subject.graph, (self.calibration,), pairs)
        for count in range(1, most + 1):
            chosen = choose_groups([alike[str(i)] for i in range(len(pairs))], members, count)
            for bypass in BYPASSES:
                if len(chosen) == count and bypass < members:
                    lost = self._nats(chosen, bypass) - self.float_nats
                    yield {"groups": chosen, "bypass": bypass, "nats": lost}

    @property
    def float_nats(self) -> float:
        return self._nats((), 0)

    def simulated(self, asked: Shallower) -> float:
        """The nats above the float of the graph with the steps of 8-bit integers."""
        pool = ThreadPoolExecutor(self.threads)
        quantizer = Quantizer(8, None, None, find("cpu"), None, pool, quiet)
        batches = iter([self.calibration])
        stages = Stages(self.subject.graph, batches, quantizer, Manager(), shallower=asked)
        stages.run(())
        total = float(nats_of(stages.graphs["simulated"], self.evaluation, (), 0)["nats"])
        return total / len(self.evaluation) - self.float_nats

    def _chosen(
        self, by: str, distance: Distance, count: int, width: int | None
    ) -> Iterator[tuple[str, ...]]:
        search = Search(self.subject.graph, self.subject.parts, (self.calibration,), distance,
                        None, ThreadPoolExecutor(self.threads), self.store)  # fmt: skip
        if by == GREEDY:
            rivals = (search.influence(), search.one_shot(PARTS if width is None else 1))
            for curve in search.paths(count, width, rivals):
                yield tuple(removal.name for removal in curve)
            return
        order = {INFLUENCE: search.influence, ONE_SHOT: search.one_shot}[by]()
        for most in range(1, count + 1):
            yield order[:most]

    @cached_property
    def _judge(self) -> Search:
        """The nats of every position of the evaluation rows."""
        return Search(self.subject.graph, self.subject.parts, (self.evaluation,), Distance.NATS, 1,
                      ThreadPoolExecutor(self.threads), self.store)  # fmt: skip

    def _lost(self, gone: Sequence[str]) -> float:
        *before, last = (part.name for part in self.subject.parts if part.name in gone)
        return self._judge.distances(before, [last])[last]

    def _nats(self, groups: Groups, bypass: int) -> float:
        tasks = [
            Task(f"{self._judge.key} groups {groups} bypass {bypass} part {i}", nats_of,
                 (self.subject.graph, rows, groups, bypass))
            for i, (rows,) in enumerate(self._judge.samples)
        ]  # fmt: skip
        found = run_tasks("groups", tasks, ThreadPoolExecutor(self.threads), self.store)
        total = sum(float(part["nats"]) for part in found)
        return total / len(self.evaluation)


def nats_of(graph: Graph, rows: Array, groups: Groups, bypass: int) -> Result:
    """The sum over rows of nats a token, in plain ops."""
    if groups:
        graph = Manager().run(graph, [GroupLayers(groups, bypass, wide=False)])
    trial, total = Trial(graph, ()), 0.0
    for row in rows:
        total += nats(trial.outputs([row[None]], ())[0], trial.following([row[None]]))
    return {"nats": np.array(total)}
