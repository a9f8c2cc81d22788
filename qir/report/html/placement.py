"""Layout of a drawn graph: layers from top to bottom, few crossings, straight long edges."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

import networkx as nx

GAP = 28.0  # between neighbours of a layer
LANE = 10.0  # width reserved for an edge that passes a layer
SWEEPS = 8  # for the order and for the places; more changes nothing one can see
STRAIGHT = 8.0  # weight of straight passing edges against centred nodes
SPINE = 1e9  # weight of the longest path, which is drawn upright

Key = Hashable


@dataclass(frozen=True)
class Placement:
    """Centres of nodes and the points of each edge; x in the units of the widths, y the number of a
    layer.
    """

    centres: Mapping[str, tuple[float, int]]
    routes: Mapping[tuple[str, str], tuple[tuple[float, int], ...]]
    width: float
    layers: int


def place(graph: nx.DiGraph[str], widths: Mapping[str, float]) -> Placement:
    """Places for all nodes of an acyclic graph: a layer for each topological generation.

    Edges over several layers get a lane in each they pass; the order in a layer follows the mean
    of the neighbours (Sugiyama); places are the nearest to those means with nothing overlapping.
    Source: Sugiyama et al. 1981, doi:10.1109/TSMC.1981.4308636.
    """
    layers: list[list[Key]] = [list(g) for g in nx.topological_generations(graph)]
    full, lanes = _with_lanes(graph, layers)
    size = {n: widths.get(n, LANE) for n in full}
    for sweep in range(SWEEPS):
        _order(layers, full, downwards=sweep % 2 == 0)
    spine: frozenset[Key] = frozenset(nx.dag_longest_path(graph))
    x = _initial(layers, size, spine)
    for sweep in range(SWEEPS):
        _settle(layers if sweep % 2 == 0 else layers[::-1], full, size, spine, x)
    left = min((x[n] - size[n] / 2 for n in x), default=0.0)
    right = max((x[n] + size[n] / 2 for n in x), default=0.0)
    level = {n: i for i, layer in enumerate(layers) for n in layer}
    centres = {n: (x[n] - left, level[n]) for n in graph}
    routes = {
        (a, b): tuple((x[lane] - left, level[lane]) for lane in lanes[a, b]) for a, b in graph.edges
    }
    return Placement(centres, routes, right - left, len(layers))


def _with_lanes(
    graph: nx.DiGraph[str], layers: list[list[Key]]
) -> tuple[nx.DiGraph[Key], Mapping[tuple[str, str], list[Key]]]:
    """The graph with a node in each layer that an edge passes; adds them to `layers`.

    Edges that leave one node share their lanes.
    """
    level = {n: i for i, layer in enumerate(layers) for n in layer}
    full: nx.DiGraph[Key] = nx.DiGraph()
    full.add_nodes_from(graph)
    lanes: dict[tuple[str, str], list[Key]] = {}
    for a, b in graph.edges:
        lane_keys: list[Key] = [(a, i) for i in range(level[a] + 1, level[b])]
        for lane in lane_keys:
            if lane not in full:
                layers[level[a] + 1 + lane_keys.index(lane)].append(lane)
        nx.add_path(full, [a, *lane_keys, b])
        lanes[a, b] = lane_keys
    return full, lanes


def _order(layers: list[list[Key]], graph: nx.DiGraph[Key], downwards: bool) -> None:
    """Sort each layer by the mean position of its neighbours in the layer just placed."""
    run = range(1, len(layers)) if downwards else range(len(layers) - 2, -1, -1)
    near = graph.pred if downwards else graph.succ
    for i in run:
        before = layers[i - 1 if downwards else i + 1]
        at = {n: k for k, n in enumerate(before)}
        positions = {n: k for k, n in enumerate(layers[i])}
        means = {
            n: fmean([at[m] for m in near[n]]) if near[n] else float(positions[n])
            for n in positions
        }
        layers[i].sort(key=lambda n: (means[n], positions[n]))


def _initial(
    layers: Sequence[Sequence[Key]], size: Mapping[Key, float], spine: frozenset[Key]
) -> dict[Key, float]:
    """Each layer packed, its node of the spine at 0; the longest path has one in every layer."""
    x: dict[Key, float] = {}
    for layer in layers:
        offsets = _offsets(layer, size)
        centre = next((o for n, o in zip(layer, offsets, strict=True) if n in spine), 0.0)
        x.update((n, o - centre) for n, o in zip(layer, offsets, strict=True))
    return x


def _offsets(layer: Sequence[Key], size: Mapping[Key, float]) -> list[float]:
    """Centres of a packed layer, the first at 0."""
    steps = ((size[a] + size[b]) / 2 + GAP for a, b in pairwise(layer))
    return list(accumulate(steps, initial=0.0))


def _settle(
    layers: Sequence[Sequence[Key]],
    graph: nx.DiGraph[Key],
    size: Mapping[Key, float],
    spine: frozenset[Key],
    x: dict[Key, float],
) -> None:
    """Move each node to the mean of its neighbours, as near as the order and the gaps allow."""
    for layer in layers:
        offsets = _offsets(layer, size)
        pulls = [_pull(n, graph, x) if n not in spine else (0.0, SPINE) for n in layer]
        targets = [mean - off for (mean, _), off in zip(pulls, offsets, strict=True)]
        nearest = monotone(targets, [weight for _, weight in pulls])
        x.update((n, p + off) for n, p, off in zip(layer, nearest, offsets, strict=True))


def _pull(n: Key, graph: nx.DiGraph[Key], x: Mapping[Key, float]) -> tuple[float, float]:
    """The mean position of the neighbours of `n`, and its weight."""
    near = [*graph.pred[n], *graph.succ[n]]
    if not near:
        return x[n], 1.0
    is_lane = isinstance(n, tuple)
    pull = [STRAIGHT if is_lane and isinstance(m, tuple) else 1.0 for m in near]
    return sum(p * x[m] for p, m in zip(pull, near, strict=True)) / sum(pull), sum(pull)


def monotone(targets: Sequence[float], weights: Iterable[float]) -> list[float]:
    """The non-decreasing numbers nearest to `targets` in weighted squares.

    Source: pool adjacent violators, Barlow et al. 1972.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(targets, weights, strict=True):
        length = 1
        while blocks and blocks[-1][0] >= value:
            mean, w, n = blocks.pop()
            value, weight = (mean * w + value * weight) / (w + weight), w + weight
            length += n
        blocks.append((value, weight, length))
    return [mean for mean, _, length in blocks for _ in range(length)]
