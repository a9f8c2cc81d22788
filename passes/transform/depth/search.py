"""Which sub-layers to leave out: greedily by what it does to the outputs, or ranked at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from qir.passes.transform.depth.trial import Trial, distances

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

    executor: of any kind; the default are threads, which share the network's weights.
    store:    where each measured part is kept; a search goes on from there.
    """

    graph: Graph
    parts: tuple[Sublayer, ...]
    sample: tuple[Array, ...]
    kind: Distance = Distance.JS
    executor: Executor | None = field(default=None, compare=False)
    store: Store | None = field(default=None, compare=False)
    tell: Tell = field(default=quiet, compare=False)

    @cached_property
    def trial(self) -> Trial:
        return Trial(self.graph, self.parts)

    @cached_property
    def samples(self) -> Sequence[tuple[Array, ...]]:
        """The sample in parts of whole runs."""
        own = rows_of(self.graph.inputs[0])
        runs = len(self.sample[0]) // own
        size = -(-runs // PARTS) * own
        return [cut(self.graph, self.sample, i, min(i + size, runs * own))
                for i in range(0, runs * own, size)]  # fmt: skip

    @cached_property
    def key(self) -> str:
        """A digest of graph, sample and distance."""
        total = hashlib.sha256(f"depth {graph_digest(self.graph)} {self.kind.value}".encode())
        for x in self.sample:
            total.update(f"{x.dtype}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
        return total.hexdigest()

    def distances(self, without: Sequence[str], tried: Sequence[str]) -> dict[str, float]:
        """For each sub-layer that is tried the distance of the outputs without it and `without`."""
        said = f"without {','.join(sorted(without))} tried {','.join(tried)}"
        tasks = [
            Task(f"{self.key} {said} part {i}", distances,
                 (self.trial, part, tuple(without), tuple(tried), self.kind.value))
            for i, part in enumerate(self.samples)
        ]  # fmt: skip
        pool = ThreadPoolExecutor(cores()) if self.executor is None else None
        with nullcontext(self.executor) if pool is None else pool as used:
            found = run_tasks("skip", tasks, used, self.store)
        runs = sum(int(part["runs"]) for part in found)
        means = np.sum([part["distances"] for part in found], 0) / runs
        return dict(zip(tried, map(float, means), strict=True))

    def greedy(self, count: int, width: int | None = None) -> tuple[Removal, ...]:
        """The curve of `count` removals, each the one after which the outputs are nearest to the
        full network's.

        width: from the second round on only so many are tried, those nearest in the round before.
        Source: FinerCut, arXiv:2405.18218, algorithm 1; `width`: this project.
        """
        gone, curve = list[str](), list[Removal]()
        tried = [part.name for part in self.parts]
        for done in range(count):
            self.tell("skip", done, count)
            near = self.distances(gone, tried)
            best = min(tried, key=lambda name: near[name])
            curve.append(Removal(best, near[best]))
            gone.append(best)
            left = [part.name for part in self.parts if part.name not in gone]
            if width is not None:
                kept = sorted((n for n in near if n != best), key=lambda n: near[n])
                left = [name for name in left if name in set(kept[:width])] or left
            tried = left
        self.tell("skip", count, count)
        return tuple(curve)

    def ranked(self, order: Sequence[str], count: int) -> tuple[Removal, ...]:
        """The curve of the first `count` removals in a given order."""
        curve = list[Removal]()
        for i, name in enumerate(order[:count]):
            self.tell("skip", i, count)
            curve.append(Removal(name, self.distances(order[:i], [name])[name]))
        self.tell("skip", count, count)
        return tuple(curve)

    def one_shot(self) -> tuple[str, ...]:
        """All sub-layers, the one first whose removal alone changes the outputs least."""
        near = self.distances((), [part.name for part in self.parts])
        return tuple(sorted(near, key=lambda name: near[name]))

    def influence(self) -> dict[str, float]:
        """1 - the mean cosine, over tokens, of the stream before and after each sub-layer.

        Source: ShortGPT's block influence, arXiv:2403.03853, section 2.2, of sub-layers.
        """
        pairs = {part.name: (part.stream.name, part.name) for part in self.parts}
        return {name: 1 - c for name, c in mean_cosines(self.graph, self.sample, pairs).items()}


def mean_cosines(
    graph: Graph, sample: tuple[Array, ...], pairs: dict[str, tuple[str, str]]
) -> dict[str, float]:
    """The mean cosine of vectors along the last axis of two values, for each pair."""
    wanted = {name for pair in pairs.values() for name in pair}
    total, program = dict.fromkeys(pairs, 0.0), FloatProgram(graph)
    runs = len(sample[0]) // rows_of(graph.inputs[0])
    for i in range(runs):
        held: dict[str, torch.Tensor] = {}

        def watch(value: Value, x: torch.Tensor, held: dict[str, torch.Tensor] = held) -> None:
            if value.name in wanted:
                held[value.name] = x

        with torch.no_grad():
            program(*run_of(graph, sample, i), watch=watch)
            for name, (a, b) in pairs.items():
                cosines = torch.nn.functional.cosine_similarity(held[a], held[b], dim=-1)
                total[name] += float(cosines.double().mean()) / runs
    return total
