"""Requests for a network that is less deep, and the passes that they become on its data."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibrate.ranges import cut, rows_of
from qir.passes.infra.manager import Pass, Record
from qir.passes.infra.tasks import Store, Tell, quiet
from qir.passes.transform.depth.choose_groups import choose_groups
from qir.passes.transform.depth.distances import Distance
from qir.passes.transform.depth.group_layers import ALL, GroupLayers, layers_of
from qir.passes.transform.depth.outcome import Depth
from qir.passes.transform.depth.search import PARTS, Removal, Search, mean_cosines
from qir.passes.transform.depth.skip_layers import SkipLayers
from qir.passes.transform.depth.sublayers import Sublayer, sublayers_of

GREEDY, ONE_SHOT, INFLUENCE = "greedy", "one-shot", "influence"
"""Ways to choose sub-layers: FinerCut's, and its baselines."""
POSITIONS, LEAST_RUNS, MOST_RUNS = 2048, 4, 64  # on which outputs are compared


@dataclass(frozen=True)
class Skip:
    """Leave out `share` of the sub-layers, those that the outputs miss least.

    distance: js, kl, angle, norm or nats: how outputs are compared; nats needs token ids and
              logits.
    by:       greedy, after FinerCut: each the one that is missed least after those before it, or
              as many by a ranking where these are missed less; one-shot: ranked by what each alone
              does; influence: ranked by how little it turns the stream (ShortGPT).
    width:    of greedy: how many are tried in a round at least, those first that raised the
              distance least when they were tried last; None: all.
    samples:  runs of the network on which outputs are compared; None: so many that they have
              2,048 positions, 4 to 64.
    names:    sub-layers by kind and number, as `mlp 5`, in place of a search.
    """

    share: float = 0.25
    distance: str = Distance.KL.value
    by: str = GREEDY
    width: int | None = 8
    samples: int | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_number = isinstance(self.share, (int, float)) and not isinstance(self.share, bool)
        fits = is_number and 0 < self.share < 1
        _check("skip", "share", self.share, fits, "above 0 and below 1")
        distances = [one.value for one in Distance]
        _check("skip", "distance", self.distance, self.distance in distances, ", ".join(distances))
        ways = (GREEDY, ONE_SHOT, INFLUENCE)
        _check("skip", "by", self.by, self.by in ways, ", ".join(ways))
        for name, value in (("width", self.width), ("samples", self.samples)):
            _check("skip", name, value, value is None or _is_count(value), "1 or more, or None,")


@dataclass(frozen=True)
class Concurrency:
    """Run groups of `members` adjacent layers side by side.

    share:  the most layers, of all, that are in groups: those whose inputs are most alike.
    bypass: the members before it whose attention the MLP of a member reads too; -1: that of all.
    groups: the layers of each group, by their numbers from 0, in place of a choice.
    """

    members: int = 2
    share: float = 0.5
    bypass: int = 1
    groups: tuple[tuple[int, ...], ...] = ()
    samples: int = 8

    def __post_init__(self) -> None:
        is_two = _is_count(self.members) and self.members > 1
        _check("concurrency", "members", self.members, is_two, "2 or more")
        is_share = isinstance(self.share, (int, float)) and 0 < self.share <= 1
        _check("concurrency", "share", self.share, is_share, "above 0 and at most 1")
        is_bypass = type(self.bypass) is int and self.bypass >= ALL
        _check("concurrency", "bypass", self.bypass, is_bypass, "-1 or more")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _check(subject: str, name: str, value: Any, fits: bool, requirement: str) -> None:
    if not fits:
        raise PassError(f"{subject}: {name} is {value!r}, {requirement} is needed")


@dataclass(frozen=True)
class Shallower:
    """What is asked for of both. Errors: PassError for what is no request."""

    skip: Skip | None = None
    concurrency: Concurrency | None = None

    @staticmethod
    def of(skip: Any, concurrency: Any) -> Shallower:
        """A share alone, or a number of members, is a request with the other defaults."""
        return Shallower(
            skip if skip is None or isinstance(skip, Skip) else Skip(skip),
            concurrency
            if concurrency is None or isinstance(concurrency, Concurrency)
            else Concurrency(concurrency),
        )

    def __bool__(self) -> bool:
        return (self.skip, self.concurrency) != (None, None)


AS_IT_IS = Shallower()


@dataclass(frozen=True)
class Planner:
    """Requests on the way to passes; `sample` is one array of samples for each input."""

    request: Shallower
    sample: tuple[Array, ...]
    executor: Executor | None = None
    store: Store | None = None
    tell: Tell = quiet

    def run(self, graph: Graph) -> tuple[tuple[Pass, ...], Depth]:
        """The passes for a float graph, and what they do. Errors: PassError without data."""
        passes, depth = list[Pass](), Depth()
        if self.request.skip is not None:
            parts = sublayers_of(graph, "skip")
            curve = self._curve(graph, parts, self.request.skip)
            removal = SkipLayers(tuple(one.name for one in curve))
            graph = removal.run(graph, Record(removal.name, removal.claim))
            passes.append(removal)
            names = titles(parts)
            removals = tuple((names[r.name], r.distance) for r in curve)
            depth = Depth(removals, self.request.skip.distance, len(parts))
        if self.request.concurrency is not None:
            groups = self._groups(graph, self.request.concurrency)
            passes.append(GroupLayers(groups, self.request.concurrency.bypass))
            depth = replace(depth, groups=groups, bypass=self.request.concurrency.bypass)
        return tuple(passes), depth

    def _runs(self, graph: Graph, most: int, subject: str) -> tuple[Array, ...]:
        """Runs of the sample, evenly over all of it: texts and pictures lie in it in order."""
        if not self.sample:
            raise PassError(f"{subject}: no calibration data, samples are needed")
        run_rows = rows_of(graph.inputs[0])
        count = len(self.sample[0]) // run_rows
        starts = [i * count // most * run_rows for i in range(most)] if count > most else [0]
        size = run_rows if count > most else count * run_rows
        parts = [cut(graph, self.sample, at, at + size) for at in starts]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _curve(self, graph: Graph, parts: Sequence[Sublayer], request: Skip) -> tuple[Removal, ...]:
        count = min(max(1, round(request.share * len(parts))), len(parts) - 1)
        runs = self._runs(graph, request.samples or enough_runs(graph), "skip")
        search = Search(graph, tuple(parts), runs, Distance(request.distance),
                        None, self.executor, self.store, self.tell)  # fmt: skip
        if request.names:
            return search.ranked(names_of(parts, request.names), len(request.names))
        if request.by == GREEDY:
            rivals = (search.influence(), search.one_shot(PARTS if request.width is None else 1))
            return search.greedy(count, request.width, rivals)
        order = search.influence() if request.by == INFLUENCE else search.one_shot()
        return search.ranked(order, count)

    def _groups(self, graph: Graph, request: Concurrency) -> tuple[tuple[int, ...], ...]:
        if request.groups:
            return request.groups
        every = layers_of(graph, "concurrency")
        pairs = {
            str(i): (a[0].stream.name, b[0].stream.name)
            for i, (a, b) in enumerate(pairwise(every))
            if b[0].stream == a[1].sum
        }
        cosines = mean_cosines(graph, self._runs(graph, request.samples, "concurrency"), pairs)
        near = [cosines.get(str(i)) for i in range(len(every) - 1)]
        members, share = request.members, request.share
        groups = choose_groups(near, members, int(share * len(every)) // members)
        if not groups:
            raise PassError(
                f"concurrency: no {members} adjacent layers within share {share:g} of"
                f" {len(every)}, a greater share or fewer members are needed"
            )
        return groups


def enough_runs(graph: Graph) -> int:
    """Runs whose outputs have POSITIONS positions together, within LEAST_RUNS and MOST_RUNS."""
    positions = max(prod(v.type.shape[:-1]) for v in graph.outputs)
    return min(max(LEAST_RUNS, -(-POSITIONS // positions)), MOST_RUNS)


def names_of(parts: Sequence[Sublayer], selection: Sequence[str]) -> tuple[str, ...]:
    """The sub-layers of these titles. Errors: PassError for a title that none has."""
    names = {title: name for name, title in titles(parts).items()}
    for title in selection:
        _check("skip", "names", title, title in names, f"one of {', '.join(names)}")
    return tuple(names[title] for title in selection)


def titles(parts: Sequence[Sublayer]) -> dict[str, str]:
    """Kind and number of each sub-layer, by name: the number of those of its kind before it."""
    counts: dict[str, int] = {}
    by_name = {}
    for part in parts:
        number = counts[part.kind] = counts.get(part.kind, -1) + 1
        by_name[part.name] = f"{part.kind} {number}"
    return by_name
