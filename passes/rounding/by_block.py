"""Rounding block by block: the passes' base, and the training of one block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array, integer_of
from qir.passes.calibrate.ranges import chunk_of, cut, rows_of, run_chunk
from qir.passes.calibrate.state import graph_digest
from qir.passes.infra.manager import Miss
from qir.passes.infra.rebatch import rebatch
from qir.passes.infra.tasks import Task
from qir.passes.quantize.stored_weights import StoredWeights, with_float_weights
from qir.passes.rounding.base import RoundWeights, with_results
from qir.passes.rounding.blocks import BlockGraph, block_units, upstream
from qir.passes.rounding.forward import UnitProgram
from qir.passes.rounding.moments import TINY

BATCH = 16  # samples a step


@dataclass(frozen=True)
class BlockProblem:
    """A unit with the source of its data: the simulated graph before it, the part of the reference
    that computes its outputs, and the samples for both.
    """

    unit: BlockGraph
    before: Graph
    reference: Graph
    sample: tuple[Array, ...]


class TrainedWeights(Protocol):
    """Weights and biases in training."""

    def parameters(self) -> list[dict[str, Any]]:
        """Groups of parameters as torch's optimizers take them, with their rates."""

    def tensors(self) -> Mapping[str, Any]:
        """Tensors by the names of the graph's values they replace."""

    def penalty(self, progress: float) -> Any:
        """The regularization of the loss after this fraction of the steps."""

    def decide(self) -> None:
        """Make what is soft so far either this or that: tensors() is what result() stands for."""

    def result(self) -> Mapping[str, Array]:
        """Constants by name, as with_weights takes them."""


def train_block(problem: BlockProblem, weights: TrainedWeights, steps: int) -> Mapping[str, Array]:
    """Train the weights of a unit so that its outputs, of what the quantized network brings, come
    near to the reference's: sum over outputs of mean |y - want|**2, as a part of what it is with
    the weights stored so far, + weights.penalty. What is no better in the end changes nothing.

    Adam with rates that fall as a half cosine; BATCH samples a step, drawn by the unit's name.
    """
    inputs = values_of(problem.before, problem.sample)
    wants = values_of(problem.reference, problem.sample)
    size = min(BATCH, len(inputs[0]))
    graph = rebatch(problem.unit.graph, size)
    assert isinstance(graph, Graph)  # other units are left out (RoundBlocks)
    parts = [range(i, i + size) for i in range(0, len(inputs[0]) - size + 1, size)]
    program, fixed = UnitProgram(graph, list(weights.tensors())), UnitProgram(graph, [])
    with torch.no_grad():
        old = sum(float(_loss(fixed, {}, inputs, wants, part)) for part in parts)
    optimizer = torch.optim.Adam(weights.parameters())
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draws = _draws(problem.unit.name, len(inputs[0]), size)
    for step, rows in zip(range(steps), draws, strict=False):
        loss = _loss(program, weights.tensors(), inputs, wants, rows) / (old / len(parts) + TINY)
        optimizer.zero_grad()
        (loss + weights.penalty(step / steps)).backward()
        optimizer.step()
        falling.step()
    weights.decide()
    with torch.no_grad():
        new = sum(float(_loss(program, weights.tensors(), inputs, wants, part)) for part in parts)
    return weights.result() if new < old else {}


def _loss(
    program: UnitProgram, weights: Mapping[str, Any], inputs: Any, wants: Any, rows: Any
) -> Any:
    outputs = program([x[rows].flatten(0, 1) for x in inputs], weights)
    pairs = zip(outputs, wants, strict=True)
    return sum(((y - target[rows].flatten(0, 1)) ** 2).mean() for y, target in pairs)


def _draws(name: str, count: int, size: int) -> Iterator[Any]:
    """Numbers of samples, `size` at a time, every one once before any is drawn again."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count // size * size].reshape(-1, size)


def values_of(graph: Graph, sample: Sequence[Array]) -> list[Any]:
    """The outputs of a graph for all samples, (samples, rows of a sample, ...)."""
    parts: dict[str, list[Any]] = {v.name: [] for v in graph.outputs}
    narrow = {v.name: _narrow(v) for v in graph.outputs}

    def watch(value: Value, x: Any) -> None:
        if value.name in parts:
            parts[value.name].append(x.to(narrow[value.name]))

    size, programs = chunk_of(graph), dict[int, FloatProgram | None]()
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, cut(graph, sample, i, i + size), watch, programs)
    count = len(sample[0]) // rows_of(graph.inputs[0])
    outputs = [torch.cat(parts[v.name]) for v in graph.outputs]
    return [x.reshape(count, -1, *x.shape[1:]) for x in outputs]


def _narrow(value: Value) -> Any:
    """The dtype to keep a value in: stored values take a quarter of the memory of floats."""
    storage = integer_of(value.type.elem)
    return torch.float32 if storage is None else getattr(torch, str(storage.carrier))


BIAS_RATE = 1e-3  # as AdaQuant's authors have it


@dataclass(frozen=True)
class RoundBlocks(RoundWeights):
    """Base of the passes that train all layers of a block together, starting from the stored
    weights.
    """

    steps: int = 300

    def rounded(
        self, graph: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Iterator[Graph]:
        if self.steps < 1:
            raise PassError(f"{self.name}: steps is {self.steps}, 1 or more is needed")
        units = block_units(graph, reference, layers)
        fit = [u for u in units if not isinstance(rebatch(u.graph, 2), Miss)]
        start, waves = 0, self.in_waves(fit)
        for wave in waves:
            simulated = with_float_weights(
                graph, {w.reals: w.floats for u in wave for w in u.layers}
            )
            aim = simulated if len(waves) == 1 else reference
            tasks = [self._task(u, simulated, aim) for u in wave]
            graph = with_results(graph, self.tasks(tasks, start, len(fit)), self.name)
            start += len(wave)
            yield graph

    def _task(self, unit: BlockGraph, simulated: Graph, reference: Graph) -> Task:
        before = upstream(simulated, [v.name for v in unit.graph.inputs])
        after = upstream(reference, [v.name for v in unit.graph.outputs])
        problem = BlockProblem(unit, before, after, self.sample)
        function, options = self.work()
        parts = map(graph_digest, (unit.graph, before, after))
        key = " ".join([self.name, repr(options), *parts, self.digest])
        return Task(key, function, (problem, *options))


class Biases:
    """The biases of a block's layers in training."""

    def __init__(self, layers: Sequence[StoredWeights]) -> None:
        biases = {w.bias_name: w.bias for w in layers if w.bias is not None}
        self.by_name = {n: torch.tensor(b, requires_grad=True) for n, b in biases.items()}

    def parameters(self) -> list[dict[str, Any]]:
        return [{"params": list(self.by_name.values()), "lr": BIAS_RATE}] if self.by_name else []

    def result(self) -> dict[str, Array]:
        return {name: b.detach().numpy() for name, b in self.by_name.items()}
