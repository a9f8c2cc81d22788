"""The search for sub-layers to leave out: against whole graphs, its bounds, rivals, curves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qir.ir.errors import PassError
from qir.ir.torch_executor import FloatProgram, run_float
from qir.passes.infra.manager import Manager
from qir.passes.infra.tasks import Store
from qir.passes.transform.depth.distances import Distance
from qir.passes.transform.depth.distances import distance as output_distance
from qir.passes.transform.depth.group_layers import GroupLayers
from qir.passes.transform.depth.requests import Planner, Shallower, Skip, enough_runs
from qir.passes.transform.depth.search import Search
from qir.passes.transform.depth.skip_layers import SkipLayers
from qir.passes.transform.depth.sublayers import sublayers_of
from qir.passes.transform.depth.trial import LOGITS, Trial, interval
from tests.accuracy.language import Case
from tests.bench.depth import __main__ as bench
from tests.bench.depth.latency import chosen
from tests.bench.depth.subjects import Subject
from tests.float_decoders import float_graph, nats, random_decoder

TOKENS = np.random.default_rng(5).integers(0, 40, (8, 6)).astype(np.int32)
GRAPH = float_graph(random_decoder(layers=4), 1, 6)


@pytest.mark.parametrize("kind", Distance)
def test_the_search_measures_the_graph_without_sublayers(kind: Distance) -> None:
    """By prefixes and by whole graphs alike; each removal is the best one."""
    parts = sublayers_of(GRAPH, "test")
    sample = TOKENS[:2]
    search = Search(GRAPH, parts, (sample,), kind, executor=ThreadPoolExecutor(1))
    curve = search.greedy(2)
    names = [part.name for part in parts]

    def measured(without: tuple[str, ...]) -> float:
        after = Manager().run(GRAPH, [SkipLayers(without)]) if without else GRAPH
        total = 0.0
        for row in sample[:, None]:
            found, want = (
                [torch.from_numpy(y.copy()) for y in run_float(g, [row])] for g in (after, GRAPH)
            )
            total += output_distance(kind, found, want, torch.from_numpy(row[:, 1:]))
        return total / len(sample)

    first = {name: measured((name,)) for name in names}
    assert curve[0].name == min(names, key=lambda n: first[n])
    second = {n: measured((curve[0].name, n)) for n in names if n != curve[0].name}
    assert curve[1].name == min(second, key=lambda n: second[n])
    assert curve[1].distance == pytest.approx(second[curve[1].name], rel=1e-5)
    assert list(search.one_shot()) == sorted(names, key=lambda n: first[n])


def test_few_are_tried_where_old_rises_are_bounds() -> None:
    """All that is known of a network's distances, of a made-up one: set functions whose rises grow,
    where the search over few finds what that over all does.
    """
    rng = np.random.default_rng(3)
    own, both = rng.uniform(0, 1, 8), rng.uniform(0, 0.3, (8, 8))
    names = [part.name for part in sublayers_of(GRAPH, "test")]

    @dataclass(frozen=True)
    class MadeUp(Search):
        calls: list[str] = field(default_factory=list)

        def distances(
            self, without: Sequence[str], tried: Sequence[str], parts: int = 4
        ) -> dict[str, float]:
            self.calls.extend(tried)
            chosen = {n: sorted(map(names.index, (*without, n))) for n in tried}
            return {
                n: own[c].sum() + np.triu(both[np.ix_(c, c)], 1).sum() for n, c in chosen.items()
            }

    few, every = (MadeUp(GRAPH, sublayers_of(GRAPH, "test"), (TOKENS,)) for _ in range(2))
    assert few.greedy(5, width=1) == every.greedy(5)
    assert len(few.calls) < len(every.calls) == 8 + 7 + 6 + 5 + 4


def test_a_rival_that_is_nearer_is_followed() -> None:
    """At every count the outputs are at least as near as by the orders beside the search."""
    parts = sublayers_of(GRAPH, "test")
    search = Search(GRAPH, parts, (TOKENS[:2],), Distance.KL)
    names = [part.name for part in parts]
    best = min(combinations(names, 3), key=lambda c: search.distances(c[:2], c[2:])[c[2]])
    orders = (search.influence(), search.one_shot(), best)
    for count, curve in enumerate(search.paths(3, 2, orders), 1):
        every = [search.ranked(order, count)[-1].distance for order in orders]
        assert curve[-1].distance <= min(every) and len(curve) == count
    assert {removal.name for removal in curve} == set(best)


def test_outputs_are_compared_at_some_positions() -> None:
    parts = sublayers_of(GRAPH, "test")
    whole, some = Trial(GRAPH, parts), Trial(GRAPH, parts, 2)
    gone = [parts[3].name]
    (want,), (found,) = (trial.outputs([TOKENS[:1]], gone) for trial in (whole, some))
    assert torch.allclose(want[:, 1::2], found, atol=1e-5)
    assert np.array_equal(some.following([TOKENS[:1]]), TOKENS[:1, 2::2])
    assert interval(GRAPH) == 1
    assert interval(float_graph(random_decoder(layers=1, tokens=2 * LOGITS), 1, 48)) == 2


def test_a_search_goes_on_from_its_folder_on_any_executor(tmp_path: Path) -> None:
    parts = sublayers_of(GRAPH, "test")
    store = Store(tmp_path, "test")
    with ProcessPoolExecutor(1) as processes:
        first = Search(GRAPH, parts, (TOKENS,), executor=processes, store=store).greedy(1)
    files = set(tmp_path.iterdir())
    told: list[tuple[str, int, int]] = []
    search = Search(GRAPH, parts, (TOKENS,), store=store, tell=lambda *a: told.append(a))
    assert search.greedy(1) == first and set(tmp_path.iterdir()) == files
    assert told[-1] == ("skip", 1, 1)
    assert Search(GRAPH, parts, (TOKENS,)).greedy(2, width=1)[:1] == first


def test_influence_is_small_where_the_stream_hardly_turns() -> None:
    parts = sublayers_of(GRAPH, "test")
    found = Search(GRAPH, parts, (TOKENS,)).influence()
    turned = dict.fromkeys(found, 0.0)
    for row in TOKENS:
        held: dict[str, Any] = {}
        FloatProgram(GRAPH)(row[None], watch=lambda v, x, held=held: held.update({v.name: x}))
        for part in parts:
            pair = held[part.stream.name], held[part.name]
            turned[part.name] -= float(torch.cosine_similarity(*pair, dim=-1).mean())
    assert list(found) == sorted(turned, key=lambda name: turned[name])


def test_sub_layers_are_named_in_place_of_a_search() -> None:
    """By the titles of a report; runs are taken evenly from the sample."""
    asked = Skip(names=("mlp 2", "attention 1"), samples=2)
    planner = Planner(Shallower(asked), (TOKENS,))
    (removal,), depth = planner.run(GRAPH)
    assert removal == SkipLayers(("end2", "middle1"))
    assert [name for name, _ in depth.removed] == list(asked.names)
    halves = Search(GRAPH, sublayers_of(GRAPH, "test"), (TOKENS[::4],)).ranked(removal.remove, 2)
    assert [distance for _, distance in depth.removed] == [r.distance for r in halves]
    with pytest.raises(PassError, match="names is 'mlp 4', one of attention 0, mlp 0, "):
        Planner(Shallower(Skip(names=("mlp 4",))), (TOKENS,)).run(GRAPH)
    assert enough_runs(GRAPH) == 64


def test_curves_of_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nats as of whole graphs, what is compiled for its latency, and a second run from disk."""
    monkeypatch.setattr(bench, "CACHE", tmp_path)
    of = Subject("shakespeare12", Case(GRAPH, TOKENS, TOKENS[:3]))
    options = "--count 2 --pairs 1 --width 2 --simulated 2 --by greedy"
    given = bench.arguments(["shakespeare12", *options.split()])
    found = bench.curves(given, of, tmp_path / "depth.json")

    def lost(*passes: Any) -> float:
        rows = TOKENS[:3, None]
        pairs = [(run_float(Manager().run(GRAPH, passes), [row])[0], row) for row in rows]
        return float(np.mean([nats(*pair) for pair in pairs]))

    names = {f"{kind} {i}": f"{at}{i}" for kind, at in (("attention", "middle"), ("mlp", "end"))
             for i in range(4)}  # fmt: skip
    assert found["float"] == pytest.approx(lost(), rel=1e-5)
    for one in found["removed"]:
        gone = SkipLayers(tuple(names[name] for name in one["names"]))
        assert one["nats"] == pytest.approx(lost(gone) - lost(), abs=1e-4)
        assert ("simulated" in one) == (one["count"] == 2)
    for one in found["groups"]:
        group = GroupLayers(one["groups"], one["bypass"])
        assert one["nats"] == pytest.approx(lost(group) - lost(), abs=1e-4)
    assert [one["bypass"] for one in found["groups"]] == [0, 1, -1]
    asked = chosen(found)
    assert list(asked)[:3] == ["all layers", "1 left out", "2 left out"] and len(asked) == 5
    files = {*tmp_path.rglob("*")}
    assert bench.curves(given, of, tmp_path / "depth.json") == found
    assert {*tmp_path.rglob("*")} == files
