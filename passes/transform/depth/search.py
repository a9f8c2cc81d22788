"""Which sub-layers to leave out: greedily by what it does to the outputs, or ranked at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate.ranges import cut, rows_of, run_of
from qir.passes.calibrate.state import graph_digest
from qir.passes.infra.tasks import Store, Task, Tell, cores, quiet, run_tasks
from qir.passes.transform.depth.distances import Distance
from qir.passes.transform.depth.sublayers import Sublayer
from qir.passes.transform.depth.trial import Trial, distances, interval

PARTS = 4  # tasks that the samples of one round are cut into


@dataclass(frozen=True)
class Removal:
    """A sub-layer that is left out after those before it, and how far the outputs are then from
    the full network's.
    """

    name: str
    distance: float


@dataclass(frozen=True)
class Search:
    """The sub-layers of a graph measured on a sample: one array of samples for each input.

    every:    outputs are compared at each `every`-th position; None: as their size asks for.
    executor: of any kind; the default are threads, which share the network's weights.
    store:    where each measured part is kept; a search goes on from there.
    """

    graph: Graph
    parts: tuple[Sublayer, ...]
    sample: tuple[Array, ...]
    kind: Distance = Distance.KL
    every: int | None = None
    executor: Executor | None = field(default=None, compare=False)
    store: Store | None = field(default=None, compare=False)
    tell: Tell = field(default=quiet, compare=False)

    @cached_property
    def trial(self) -> Trial:
        return Trial(self.graph, self.parts, self.every or interval(self.graph))

    @cached_property
    def _memo(self) -> dict[str, dict[str, float]]:
        return {}

    @cached_property
    def samples(self) -> Sequence[tuple[Array, ...]]:
        """The sample in parts of whole runs."""
        run_rows = rows_of(self.graph.inputs[0])
        runs = len(self.sample[0]) // run_rows
        size = -(-runs // PARTS) * run_rows
        return [cut(self.graph, self.sample, i, min(i + size, runs * run_rows))
                for i in range(0, runs * run_rows, size)]  # fmt: skip

    @cached_property
    def key(self) -> str:
        """A digest of graph, sample and distance."""
        text = f"depth {graph_digest(self.graph)} {self.kind.value} {self.trial.every}"
        total = hashlib.sha256(text.encode())
        for x in self.sample:
            total.update(f"{x.dtype}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
        return total.hexdigest()

    def distances(
        self, without: Sequence[str], candidates: Sequence[str], parts: int = PARTS
    ) -> dict[str, float]:
        """For each sub-layer that is tried the distance of the outputs without it and `without`,
        on the first `parts` of the sample.
        """
        title = f"without {','.join(sorted(without))} tried {','.join(candidates)}"
        if (memo := self._memo.get(f"{title} {parts}")) is not None:
            return memo
        tasks = [
            Task(f"{self.key} {title} part {i}", distances,
                 (self.trial, part, tuple(without), tuple(candidates), self.kind.value))
            for i, part in enumerate(self.samples[:parts])
        ]  # fmt: skip
        pool = ThreadPoolExecutor(cores()) if self.executor is None else None
        with nullcontext(self.executor) if pool is None else pool as workers:
            results = run_tasks("skip", tasks, workers, self.store)
        runs = sum(int(part["runs"]) for part in results)
        means = np.sum([part["distances"] for part in results], 0) / runs
        self._memo[f"{title} {parts}"] = near = dict(
            zip(candidates, map(float, means), strict=True)
        )
        return near

    def greedy(
        self, count: int, width: int | None = None, rivals: Sequence[Sequence[str]] = ()
    ) -> tuple[Removal, ...]:
        """The curve of `count` removals, each the one after which the outputs are nearest to the
        full network's: the last of `paths`.
        """
        return list(self.paths(count, width, rivals))[-1]

    def paths(
        self, count: int, width: int | None = None, rivals: Sequence[Sequence[str]] = ()
    ) -> Iterator[tuple[Removal, ...]]:
        """The curve of the best removals of each count from 1 on: that of the count before and the
        sub-layer that is missed least, or the first of a rival's order where they are missed less.

        width:  of those left only the `width` whose last measured rise of the distance was least
                are tried in a round, and all others whose last rise was below the least one of the
                round; the first rises are measured on a part of the sample. None: all are tried.
        rivals: orders of sub-layers.
        Source: FinerCut, arXiv:2405.18218, algorithm 1; rises grow as more is left out, mostly, so
                old ones are bounds: Minoux 1978, accelerated greedy algorithms; rivals: this
                project.
        """
        names = [part.name for part in self.parts]
        rises = dict.fromkeys(names, 0.0)
        if width is not None:
            rises |= self.distances((), names, 1)
        best, others = tuple[Removal, ...](), [tuple[Removal, ...]()] * len(rivals)
        for length in range(count):
            self.tell("skip", length, count)
            near = self._round(best, rises, width or len(names))
            others = [
                self._longer(curve, order[length])
                for curve, order in zip(others, rivals, strict=True)
            ]
            nearest = min(near, key=lambda name: near[name])
            extension = (*best, Removal(nearest, near[nearest]))
            best = min((extension, *others), key=lambda curve: curve[-1].distance)
            yield best
        self.tell("skip", count, count)

    def _longer(self, curve: tuple[Removal, ...], name: str) -> tuple[Removal, ...]:
        (distance,) = self.distances([r.name for r in curve], [name]).values()
        return (*curve, Removal(name, distance))

    def _round(
        self, curve: tuple[Removal, ...], rises: dict[str, float], width: int
    ) -> dict[str, float]:
        """The distances of those that are tried, `width` at a time; their rises are set."""
        removals, at = [r.name for r in curve], curve[-1].distance if curve else 0.0
        queue = sorted(
            (name for name in rises if name not in removals), key=lambda name: rises[name]
        )
        near: dict[str, float] = {}
        while queue:
            least = min(near.values(), default=math.inf) - at
            candidates = [name for name in queue[:width] if rises[name] < least]
            if not candidates:
                break
            near |= self.distances(removals, candidates)
            queue = queue[width:]
        rises |= {name: distance - at for name, distance in near.items()}
        return near

    def ranked(self, order: Sequence[str], count: int) -> tuple[Removal, ...]:
        """The curve of the first `count` removals in a given order."""
        curve = tuple[Removal, ...]()
        for i, name in enumerate(order[:count]):
            self.tell("skip", i, count)
            curve = self._longer(curve, name)
        self.tell("skip", count, count)
        return curve

    def one_shot(self, parts: int = PARTS) -> tuple[str, ...]:
        """All sub-layers, the one first whose removal alone changes the outputs least, on the first
        `parts` of the sample.
        """
        near = self.distances((), [part.name for part in self.parts], parts)
        return tuple(sorted(near, key=lambda name: near[name]))

    def influence(self) -> tuple[str, ...]:
        """All sub-layers, the one first that turns the stream least: by 1 - the mean cosine, over
        tokens, of the stream before and after it.

        Source: ShortGPT's block influence, arXiv:2403.03853, section 2.2, of sub-layers.
        """
        pairs = {part.name: (part.stream.name, part.name) for part in self.parts}
        cosines = mean_cosines(self.graph, self.sample, pairs)
        return tuple(sorted(cosines, key=lambda name: -cosines[name]))


def mean_cosines(
    graph: Graph, sample: tuple[Array, ...], pairs: dict[str, tuple[str, str]]
) -> dict[str, float]:
    """The mean cosine of vectors along the last axis of two values, for each pair."""
    names = {name for pair in pairs.values() for name in pair}
    total, program = dict.fromkeys(pairs, 0.0), FloatProgram(graph)
    runs = len(sample[0]) // rows_of(graph.inputs[0])
    for i in range(runs):
        values: dict[str, torch.Tensor] = {}

        def watch(value: Value, x: torch.Tensor, values: dict[str, torch.Tensor] = values) -> None:
            if value.name in names:
                values[value.name] = x

        with torch.no_grad():
            program(*run_of(graph, sample, i), watch=watch)
            for name, (a, b) in pairs.items():
                cosines = torch.nn.functional.cosine_similarity(values[a], values[b], dim=-1)
                total[name] += float(cosines.double().mean()) / runs
    return total
