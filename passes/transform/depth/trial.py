"""A float network run without some of its sub-layers, again and again, from where they begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Linear, Slice
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate.ranges import rows_of, run_of
from qir.passes.infra.tasks import Result
from qir.passes.transform.depth.distances import Distance, distance
from qir.passes.transform.depth.sublayers import Sublayer

Env = dict[str, Any]

LOGITS = 12288  # of a position: more of them are computed at fewer positions
KEPT_ELEMENTS = 1 << 26  # of the full network's outputs, that are not computed again


def interval(graph: Graph) -> int:
    """At every how many positions outputs are compared: logits of a large vocabulary cost more than
    the layers in front of them, and say much the same at adjacent positions.
    """
    ends = [graph.producers.get(v.name) for v in graph.outputs]
    heads = [op.result.type.shape for op in ends if op is not None and _is_head(op)]
    if len(heads) < len(ends):
        return 1
    return max(1, *(min(shape[2] // LOGITS, shape[1] // 16) for shape in heads))


def _is_head(op: Op) -> bool:
    return isinstance(op, Linear) and op.x.type.rank == 3


def thinned(graph: Graph, every: int) -> Graph:
    """y (N, L, C) = linear(x), an output -> y of each `every`-th row of x alone, from every - 1 on.

    Keeps: those rows.
    """
    ends = {v.name for v in graph.outputs}

    def rewrite(op: Op, builder: Builder) -> Op:
        if every == 1 or op.names[0] not in ends or not isinstance(op, Linear) or not _is_head(op):
            return op
        start, stop, step = (0, every - 1, 0), op.x.type.shape, (1, every, 1)
        return replace(op, x=builder.add(Slice(op.x, start, stop, step, loc=op.loc)))

    return graph.mapped(rewrite)


@dataclass(frozen=True)
class Trial:
    """Runs of a graph without sub-layers, outputs at every `every`-th position. What is before the
    first sub-layer that is left out is run once for all that follow it. A copy in another process
    makes the program again.
    """

    full_graph: Graph
    parts: tuple[Sublayer, ...]
    every: int = 1

    def __reduce__(self) -> tuple[Callable[..., Trial], tuple[Any, ...]]:
        return Trial, (self.full_graph, self.parts, self.every)

    @cached_property
    def graph(self) -> Graph:
        return thinned(self.full_graph, self.every)

    @cached_property
    def _full(self) -> dict[bytes, tuple[Any, ...]]:
        return {}

    def full(self, inputs: Sequence[Array]) -> tuple[Any, ...]:
        """The outputs of the full network; those of the first runs are kept."""
        key = b"".join(np.ascontiguousarray(x).tobytes() for x in inputs)
        outputs = self._full.get(key)
        if outputs is None:
            outputs = self.outputs(inputs, ())
            if (len(self._full) + 1) * sum(y.numel() for y in outputs) <= KEPT_ELEMENTS:
                self._full[key] = outputs
        return outputs

    def following(self, inputs: Sequence[Array]) -> torch.Tensor:
        """The first input at the positions behind those of the outputs, of token ids."""
        ids = torch.from_numpy(np.atleast_1d(inputs[0]))
        return ids[..., self.every :: self.every]

    @cached_property
    def program(self) -> FloatProgram:
        return FloatProgram(self.graph)

    @cached_property
    def places(self) -> dict[str, int]:
        """The position in the graph of the op that makes each value."""
        return {name: i for i, op in enumerate(self.graph.ops) for name in op.names}

    def outputs(self, inputs: Sequence[Any], without: Sequence[str]) -> tuple[Any, ...]:
        """The outputs without these sub-layers."""
        env = self.program.begin(inputs)
        return self._to_end(env, 0, frozenset(without))

    def each(
        self, inputs: Sequence[Any], without: Sequence[str], candidates: Sequence[str]
    ) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The outputs without `without` and one of `candidates`, in the order of the graph."""
        env, at, removals = self.program.begin(inputs), 0, frozenset(without)
        parts = [part for part in self.parts if part.name in set(candidates)]
        for part in sorted(parts, key=self._first):
            at = self._advance(env, at, self._first(part), removals)
            yield part.name, self._to_end(dict(env), at, removals | {part.name})

    def _first(self, part: Sublayer) -> int:
        return min(self.places[name] for name in (*part.ops, part.name))

    def _to_end(self, env: Env, at: int, removals: frozenset[str]) -> tuple[Any, ...]:
        self._advance(env, at, len(self.graph.ops), removals)
        return tuple(env[v.name] for v in self.graph.outputs)

    def _advance(self, env: Env, start: int, stop: int, removals: frozenset[str]) -> int:
        """Run ops `start` to `stop` but those of sub-layers that are gone; `stop`."""
        for at, part in self._skipped(removals):
            if not start <= at < stop:
                continue
            self.program.advance(env, start, at)
            if part is not None:
                env[part.name] = env[part.stream.name]
            start = at + 1
        self.program.advance(env, start, stop)
        return stop

    def _skipped(self, removals: frozenset[str]) -> list[tuple[int, Sublayer | None]]:
        """The ops that are passed by, in order, and of sums their sub-layer."""
        places: list[tuple[int, Sublayer | None]] = []
        for part in self.parts:
            if part.name in removals:
                places += [(self.places[name], None) for name in part.ops]
                places.append((self.places[part.name], part))
        return sorted(places, key=lambda pair: pair[0])


def distances(
    trial: Trial,
    sample: tuple[Array, ...],
    without: tuple[str, ...],
    candidates: tuple[str, ...],
    kind: str,
) -> Result:
    """The sums over runs of the distances from the full network: without `without` and each of
    `candidates`.
    """
    total = dict.fromkeys(candidates, 0.0)
    runs = len(sample[0]) // rows_of(trial.graph.inputs[0])
    with torch.no_grad():
        for i in range(runs):
            inputs = run_of(trial.graph, sample, i)
            reference, following = trial.full(inputs), trial.following(inputs)
            for name, outputs in trial.each(inputs, without, candidates):
                total[name] += distance(Distance(kind), outputs, reference, following)
    return {"distances": np.array([total[name] for name in candidates]), "runs": np.array(runs)}
