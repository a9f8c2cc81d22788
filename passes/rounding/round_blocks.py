"""What the passes that round blocks of layers have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibrate.state import graph_digest
from qir.passes.infra.manager import Miss
from qir.passes.infra.rebatch import rebatch
from qir.passes.infra.tasks import Task
from qir.passes.quantize.stored_weights import StoredWeights, with_float_weights
from qir.passes.rounding.base import RoundWeights, with_results
from qir.passes.rounding.blocks import Unit, block_units, upstream
from qir.passes.rounding.train_block import BlockProblem

BIAS_RATE = 1e-3  # as AdaQuant's authors have it


@dataclass(frozen=True)
class RoundBlocks(RoundWeights):
    """Base of the passes that train all layers of a block at once, from what is stored on."""

    steps: int = 300

    def rounded(
        self, graph: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Iterator[Graph]:
        if self.steps < 1:
            raise PassError(f"{self.name}: steps is {self.steps}, 1 or more is needed")
        units = block_units(graph, reference, layers)
        fit = [u for u in units if not isinstance(rebatch(u.graph, 2), Miss)]
        done, waves = 0, self.in_waves(fit)
        for wave in waves:
            seen = with_float_weights(graph, {w.reals: w.wanted for u in wave for w in u.layers})
            aim = seen if len(waves) == 1 else reference
            tasks = [self._task(u, seen, aim) for u in wave]
            graph = with_results(graph, self.tasks(tasks, done, len(fit)), self.name)
            done += len(wave)
            yield graph

    def _task(self, unit: Unit, seen: Graph, reference: Graph) -> Task:
        before = upstream(seen, [v.name for v in unit.graph.inputs])
        after = upstream(reference, [v.name for v in unit.graph.outputs])
        problem = BlockProblem(unit, before, after, self.sample)
        function, options = self.work()
        parts = map(graph_digest, (unit.graph, before, after))
        key = " ".join([self.name, repr(options), *parts, self.digest])
        return Task(key, function, (problem, *options))


class Biases:
    """The biases of a block's layers in training."""

    def __init__(self, layers: Sequence[StoredWeights]) -> None:
        known = {w.bias_name: w.bias for w in layers if w.bias is not None}
        self.by_name = {n: torch.tensor(b, requires_grad=True) for n, b in known.items()}

    def parameters(self) -> list[dict[str, Any]]:
        return [{"params": list(self.by_name.values()), "lr": BIAS_RATE}] if self.by_name else []

    def result(self) -> dict[str, Array]:
        return {name: b.detach().numpy() for name, b in self.by_name.items()}
