"""Rounding learned by gradients: what a unit gives is brought near to what the float graph gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array, integer_of
from qir.passes.calibrate import chunk_of, run_chunk
from qir.passes.rebatch import rebatch
from qir.passes.rounding.unit_program import UnitProgram
from qir.passes.rounding.units import Unit

BATCH = 32  # samples a step
TINY = 1e-12  # keeps a loss of nothing finite


@dataclass(frozen=True)
class Problem:
    """A unit, and how to come by its data: the part of the simulated graph before it, the part of
    the float graph that computes its outputs, and the samples for both.
    """

    unit: Unit
    before: Graph
    reference: Graph
    sample: tuple[Array, ...]


class Weights(Protocol):
    """Weights in training: what the unit shall use, and what they become."""

    def parameters(self) -> list[dict[str, Any]]:
        """Groups of parameters as torch's optimizers take them, with their learning rates."""

    def given(self) -> Mapping[str, Any]:
        """Tensors by the names of the values they stand for."""

    def penalty(self, done: float) -> Any:
        """What is added to the loss when this part of the steps is done."""

    def result(self) -> Mapping[str, Array]:
        """Constants by name, as with_weights takes them."""


def values_of(graph: Graph, sample: Sequence[Array]) -> list[Any]:
    """The outputs of a graph for all samples, (samples, rows of a sample, ...)."""
    parts: dict[str, list[Any]] = {v.name: [] for v in graph.outputs}
    narrow = {v.name: _narrow(v) for v in graph.outputs}

    def watch(value: Value, x: Any) -> None:
        if value.name in parts:
            parts[value.name].append(x.to(narrow[value.name]))

    size, programs = chunk_of(graph), dict[int, FloatProgram | None]()
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, tuple(x[i : i + size] for x in sample), watch, programs)
    count = len(sample[0]) // graph.inputs[0].type.shape[0]
    joined = [torch.cat(parts[v.name]) for v in graph.outputs]
    return [x.reshape(count, -1, *x.shape[1:]) for x in joined]


def _narrow(value: Value) -> Any:
    """The dtype to keep a value in: stored ones take a quarter of what torch computes them in."""
    kept = integer_of(value.type.elem)
    return torch.float32 if kept is None else getattr(torch, str(kept.carrier))


def reconstruct(problem: Problem, weights: Weights, steps: int) -> Mapping[str, Array]:
    """Train the weights of a unit so that its outputs, of inputs as the quantized layers before
    give them, come near to the float graph's: sum over outputs of |y - want|**2, as a part of what
    it is with the weights of before, + weights.penalty.

    Adam with rates that fall as a half cosine; BATCH samples a step, drawn by the unit's name.
    """
    inputs = values_of(problem.before, problem.sample)
    wants = values_of(problem.reference, problem.sample)
    size = min(BATCH, len(inputs[0]))
    graph = rebatch(problem.unit.graph, size)
    assert isinstance(graph, Graph)  # units that cannot be remade are left out
    draws = _draws(problem.unit.name, len(inputs[0]), size)
    program = UnitProgram(graph, list(weights.given()))
    old = _loss(UnitProgram(graph, []), {}, inputs, wants, range(size))
    optimizer = torch.optim.Adam(weights.parameters())
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, rows in zip(range(steps), draws, strict=False):
        loss = _loss(program, weights.given(), inputs, wants, rows) / (float(old) + TINY)
        optimizer.zero_grad()
        (loss + weights.penalty(step / steps)).backward()
        optimizer.step()
        falling.step()
    return weights.result()


def _loss(
    program: UnitProgram, given: Mapping[str, Any], inputs: Any, wants: Any, rows: Any
) -> Any:
    outputs = program([x[rows].flatten(0, 1) for x in inputs], given)
    pairs = zip(outputs, wants, strict=True)
    return sum(((y - want[rows].flatten(0, 1)) ** 2).mean() for y, want in pairs)


def _draws(name: str, count: int, size: int) -> Iterator[Any]:
    """Numbers of samples, `size` at a time, every one once before any is drawn again."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count // size * size].split(size)
