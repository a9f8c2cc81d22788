"""What the passes that round layer by layer have in common: moments of what each layer reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, rows_of
from qir.passes.calibrate.state import graph_digest
from qir.passes.infra.tasks import Task, run_tasks
from qir.passes.quantize.stored_weights import StoredWeights, layers_of, with_float_weights
from qir.passes.rounding.base import RoundWeights, with_results
from qir.passes.rounding.blocks import extract
from qir.passes.rounding.moments import SIDES, moment_names, moments
from qir.passes.rounding.round_layer import round_layer
from qir.passes.rounding.walk import Held, cut_before, stretch

PARTS = 4  # tasks that the samples are cut into
AT_ONCE = 16  # samples that run together, fewer where values are large


@dataclass(frozen=True)
class RoundLayers(RoundWeights):
    """Base of the passes that know each layer by the moments of what it reads.

    A layer behind others of its wave makes up for its own rounding alone: those before it do so for
    what the waves before them have lost.
    """

    def rounded(
        self, graph: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Iterator[Graph]:
        walk, done = Walk.started(graph, reference, self.sample), 0
        for wave in self.in_waves(layers):
            names = [w.layer for w in wave]
            function, options = self.work()
            of = f"{self.name} {options!r} {graph_digest(graph)} {graph_digest(reference)}"
            keys = [f"{of} {names} {self.digest} {name}" for name in names]
            sums: Sequence[Mapping[str, Array]] = ()
            if not self.has_all(keys):  # else the walk goes on later, from where it is
                seen = with_float_weights(graph, {w.reals: w.wanted for w in wave})
                walk, sums = walk.to(seen, names, self)
            results = self.tasks([
                Task(key, round_layer, (w, _own(sums, w.layer), function, *options))
                for key, w in zip(keys, wave, strict=True)
            ], done, len(layers))  # fmt: skip
            graph, done = with_results(graph, results, self.name), done + len(wave)
            yield graph


@dataclass(frozen=True)
class Walk:
    """How far both graphs have been run: for each part of the samples the values at a cut of the
    simulated graph, and of the reference. As many samples run together all the way, so that one
    long step gives the same floats as two short ones.
    """

    reference: Graph
    held: tuple[tuple[Held, Held], ...]
    at_once: int

    @staticmethod
    def started(graph: Graph, reference: Graph, sample: tuple[Array, ...]) -> Walk:
        own = rows_of(graph.inputs[0])
        runs = [x.reshape(-1, *v.type.shape) for v, x in zip(graph.inputs, sample, strict=True)]
        size = -(-len(runs[0]) // PARTS)
        parts = (
            tuple(
                {v.name: x[i : i + size] for v, x in zip(g.inputs, runs, strict=True)}
                for g in (graph, reference)
            )
            for i in range(0, len(runs[0]), size)
        )
        at_once = min(AT_ONCE, max(1, chunk_of(graph) // own))
        return Walk(reference, tuple((mine, theirs) for mine, theirs in parts), at_once)

    def to(
        self, seen: Graph, wave: Sequence[str], by: RoundWeights
    ) -> tuple[Walk, Sequence[Mapping[str, Array]]]:
        """On to the cut before these layers, and the moments of what they read in each part."""
        layers = tuple(op for op in layers_of(seen) if op.names[0] in wave)
        theirs = {op.names[0]: op.x.name for op in layers_of(self.reference)}
        cut = cut_before(seen, wave)
        floats = {
            op.names[0]: theirs[op.names[0]]
            for op in layers
            if not _has_layers(seen, cut, op.x.name, wave)
        }
        (mine, others), *_ = self.held
        pair = (
            stretch(seen, mine, [op.x.name for op in layers], cut),
            stretch(self.reference, others, floats.values(), cut_before(self.reference, wave)),
        )
        found = run_tasks(f"{by.name}: moments", [
            Task("", moments, (*pair, layers, floats, *held, self.at_once)) for held in self.held
        ], by.executor)  # fmt: skip
        held = tuple(
            tuple(
                {name: part[f"{side}{name}"] for name in one.cut}
                for side, one in zip(SIDES, pair, strict=True)
            )
            for part in found
        )
        return replace(self, held=tuple((a, b) for a, b in held)), found


def _has_layers(graph: Graph, cut: Sequence[str], name: str, layers: Sequence[str]) -> bool:
    """Whether one of the layers is between the cut and a value."""
    part = extract(graph, cut, [name])
    return any(op.names[0] in layers for op in part.ops)


def _own(sums: Sequence[Mapping[str, Array]], layer: str) -> list[Mapping[str, Array]]:
    """Of the moments of all layers those of one."""
    return [{key: part[key] for key in moment_names(layer) if key in part} for part in sums]
