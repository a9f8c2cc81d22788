"""A float network run without some of its sub-layers, again and again, from where they begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate.ranges import rows_of, run_of
from qir.passes.infra.tasks import Result
from qir.passes.transform.depth.distances import Distance, distance
from qir.passes.transform.depth.sublayers import Sublayer

Env = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Runs of a graph without sub-layers. What is before the first sub-layer that is left out is
    run once for all that follow it. A copy in another process makes the program again.
    """

    graph: Graph
    parts: tuple[Sublayer, ...]

    def __reduce__(self) -> tuple[Callable[..., Trial], tuple[Any, ...]]:
        return Trial, (self.graph, self.parts)

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
        self, inputs: Sequence[Any], without: Sequence[str], tried: Sequence[str]
    ) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The outputs without `without` and one of `tried`, in the order of the graph."""
        env, at, gone = self.program.begin(inputs), 0, frozenset(without)
        wanted = [part for part in self.parts if part.name in set(tried)]
        for part in sorted(wanted, key=self._first):
            at = self._advance(env, at, self._first(part), gone)
            yield part.name, self._to_end(dict(env), at, gone | {part.name})

    def _first(self, part: Sublayer) -> int:
        return min(self.places[name] for name in (*part.ops, part.name))

    def _to_end(self, env: Env, at: int, gone: frozenset[str]) -> tuple[Any, ...]:
        self._advance(env, at, len(self.graph.ops), gone)
        return tuple(env[v.name] for v in self.graph.outputs)

    def _advance(self, env: Env, start: int, stop: int, gone: frozenset[str]) -> int:
        """Run ops `start` to `stop` but those of sub-layers that are gone; `stop`."""
        for at, part in self._skipped(gone):
            if not start <= at < stop:
                continue
            self.program.advance(env, start, at)
            if part is not None:
                env[part.name] = env[part.stream.name]
            start = at + 1
        self.program.advance(env, start, stop)
        return stop

    def _skipped(self, gone: frozenset[str]) -> list[tuple[int, Sublayer | None]]:
        """The ops that are passed by, in order, and of sums their sub-layer."""
        found: list[tuple[int, Sublayer | None]] = []
        for part in self.parts:
            if part.name in gone:
                found += [(self.places[name], None) for name in part.ops]
                found.append((self.places[part.name], part))
        return sorted(found, key=lambda pair: pair[0])


def distances(
    trial: Trial,
    sample: tuple[Array, ...],
    without: tuple[str, ...],
    tried: tuple[str, ...],
    kind: str,
) -> Result:
    """The sums over runs of the distances from the full network: without `without` and each of
    `tried`.
    """
    total = dict.fromkeys(tried, 0.0)
    runs = len(sample[0]) // rows_of(trial.graph.inputs[0])
    with torch.no_grad():
        for i in range(runs):
            inputs = run_of(trial.graph, sample, i)
            given = [torch.from_numpy(np.asarray(x)) for x in inputs]
            wanted = trial.outputs(inputs, ())
            for name, outputs in trial.each(inputs, without, tried):
                total[name] += distance(Distance(kind), outputs, wanted, given)
    return {"distances": np.array([total[name] for name in tried]), "runs": np.array(runs)}
