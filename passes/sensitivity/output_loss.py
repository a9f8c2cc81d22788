"""How far outputs are from those of the float network: the loss that sensitivities are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Reshape, Softmax
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, run_chunk

Tensors = Sequence[torch.Tensor]
LEAST = 1e-12  # of a probability, so that its logarithm is finite


class Loss(Protocol):
    """A scalar, the mean over the samples of a chunk; can be pickled.

    `wanted` are the float network's outputs, `at` the indices of the samples in the whole sample.
    """

    def __call__(self, outputs: Tensors, reference: Tensors, at: Array) -> torch.Tensor: ...


class Distance(Enum):
    """How one output differs from the float one; each a mean over samples."""

    LOGITS = "KL(softmax(float) || softmax(output)), nats"
    PROBABILITIES = "KL(float || output), nats"
    SQUARES = "sum((output - float)**2) / mean over the whole sample of sum(float**2)"


@dataclass(frozen=True)
class OutputLoss:
    """The sum over outputs of their distances from the float network's; no labels are needed.

    At the float network it is 0 and so is its gradient; its Hessian is the Gauss-Newton matrix,
    of KL the Fisher information of the network's own predictions. `powers` are the denominators
    of SQUARES, 1 for other outputs.
    """

    distances: tuple[Distance, ...]
    powers: tuple[float, ...]

    def __call__(self, outputs: Tensors, reference: Tensors, at: Array) -> torch.Tensor:
        parts = zip(self.distances, outputs, reference, self.powers, strict=True)
        return torch.stack([_distance(kind, y, p) / c for kind, y, p, c in parts]).sum()

    def root(self, reference: Tensors, signs: Tensors) -> list[torch.Tensor]:
        """R s for each output, with R R^T the Hessian of the loss by the outputs, at the float
        ones: of KL by logits diag(p) - p p^T, for each sample, over their number.
        """
        parts = zip(self.distances, reference, signs, self.powers, strict=True)
        return [_root(kind, y, s) / (len(y) * c) ** 0.5 for kind, y, s, c in parts]


@dataclass(frozen=True)
class OwnLoss:
    """A loss of the user's: `function(outputs, at)`, for the sample's indices `at`, a mean."""

    function: Callable[[Tensors, Array], torch.Tensor]

    def __call__(self, outputs: Tensors, reference: Tensors, at: Array) -> torch.Tensor:
        value = self.function(outputs, at)
        if value.numel() != 1:
            raise PassError(
                f"sensitivity: the loss has shape {list(value.shape)}, one number is needed"
            )
        return value.reshape(())


def loss_of(graph: Graph, sample: tuple[Array, ...]) -> OutputLoss:
    """The distance of each output, by its shape: probabilities where a softmax makes it; logits
    where it is (N, C) with 2 <= C and not, as an autoencoder's, as large as an input; else squares.
    """
    distances = tuple(_kind(graph, v) for v in graph.outputs)
    powers = dict.fromkeys((v.name for v in graph.outputs), 0.0)

    def add(value: Value, x: torch.Tensor) -> None:
        if value.name in powers:
            powers[value.name] += float(x.double().square().sum()) / len(sample[0])

    if Distance.SQUARES in distances:
        size = chunk_of(graph)
        for i in range(0, len(sample[0]), size):
            run_chunk(graph, cut(graph, sample, i, i + size), add)
    kinds = zip(graph.outputs, distances, strict=True)
    return OutputLoss(
        distances,
        tuple(max(powers[v.name], LEAST) if k is Distance.SQUARES else 1.0 for v, k in kinds),
    )


def _kind(graph: Graph, output: Value) -> Distance:
    if isinstance(_maker(graph, output), Softmax):
        return Distance.PROBABILITIES
    sizes = {v.type.size for v in graph.inputs}
    is_row = output.type.rank == 2 and output.type.shape[1] >= 2
    return Distance.LOGITS if is_row and output.type.size not in sizes else Distance.SQUARES


def _maker(graph: Graph, value: Value) -> Op | None:
    op = graph.producers.get(value.name)
    while isinstance(op, Reshape) and op.x.type.shape[-1] == op.shape[-1]:
        op = graph.producers.get(op.x.name)
    return op


def _distance(kind: Distance, y: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    if kind is Distance.SQUARES:
        return ((y - reference) ** 2).sum() / len(y)
    if kind is Distance.LOGITS:
        p, log_p, log_y = reference.softmax(-1), reference.log_softmax(-1), y.log_softmax(-1)
    else:
        p, log_p, log_y = reference, *(x.clamp_min(LEAST).log() for x in (reference, y))
    return (p * (log_p - log_y)).sum() / len(y)


def _root(kind: Distance, y: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    if kind is Distance.SQUARES:
        return signs * 2**0.5
    if kind is Distance.PROBABILITIES:
        return torch.where(y > LEAST, signs * y.clamp_min(LEAST).rsqrt(), 0.0)
    p = y.softmax(-1)
    half = signs * p.sqrt()
    return half - p * half.sum(-1, keepdim=True)
