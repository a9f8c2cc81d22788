"""A float graph whose weights, and what is added to each layer's input, are inputs of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Constant
from qir.ir.ops.kinds import Layer
from qir.ir.torch_executor import FloatProgram, Watch
from qir.ir.types import Array
from qir.passes.calibrate.ranges import rows_of
from qir.passes.infra.manager import Miss
from qir.passes.infra.rebatch import rebatch

LIVE_ELEMENTS = 1 << 25  # values of a chunk that is differentiated twice: about 1 GiB in all


def layers_of(graph: Graph) -> dict[str, Layer]:
    """The convolutions and linear ops with constant float weights, by the names of their results.

    Errors: PassError if there is none.
    """
    found: dict[str, Layer] = {}
    for op in graph.ops:
        if not isinstance(op, Layer) or not op.w.type.is_float:
            continue
        if isinstance(graph.producers.get(op.w.name), Constant):
            found[op.names[0]] = op
    if not found:
        raise PassError(
            f"sensitivity @{graph.name}: no layer, a convolution or linear op with constant float "
            f"weights is needed"
        )
    return found


def weights_of(graph: Graph, layer: Layer) -> Array:
    """(O, ..., I) float32"""
    source = graph.producers[layer.w.name]
    assert isinstance(source, Constant)
    return source.value.array


def bias_of(graph: Graph, layer: Layer) -> Array | None:
    source = None if layer.bias is None else graph.producers.get(layer.bias.name)
    return source.value.array if isinstance(source, Constant) else None


def for_samples(graph: Graph, count: int) -> Graph:
    """The graph that takes `count` samples at once.

    Errors: PassError that names the op which mixes samples, or the batch that does not divide.
    """
    own = graph.inputs[0].type.shape[0] if graph.inputs[0].type.rank else 0
    if own < 1 or count % own:
        raise PassError(
            f"sensitivity @{graph.name}: {count} samples, a multiple of its batch {own} is needed"
        )
    larger = rebatch(graph, count // own)
    if isinstance(larger, Miss):
        raise PassError(f"sensitivity @{graph.name}: {larger.why} at %{larger.at}, samples that "
                        f"go their own ways are needed")  # fmt: skip
    return larger


def chunk_size(graph: Graph) -> int:
    """How many samples keep all values of the graph, held at once, bounded."""
    own = rows_of(graph.inputs[0])
    constant = {n for op in graph.ops if isinstance(op, Constant) for n in op.names}
    live = sum(v.type.size for v in graph.values if v.name not in constant)
    return own * max(1, LIVE_ELEMENTS // max(1, live))


@dataclass(frozen=True)
class Leaves:
    """The tensors of which derivatives are taken, by layer."""

    weights: Mapping[str, torch.Tensor]
    inputs: Mapping[str, torch.Tensor]


class Probe:
    """y = f(x; W_l, d_l): layer l computes on x_l + d_l with weights W_l, each an input.

    Two layers that share one constant or one value have leaves of their own.
    """

    def __init__(self, graph: Graph, count: int) -> None:
        larger = for_samples(graph, count)
        self.layers = layers_of(larger)
        self.kept = {name: weights_of(larger, op) for name, op in self.layers.items()}
        self._program = FloatProgram(_opened(larger, self.layers))

    def leaves(self, weights: bool, inputs: bool) -> Leaves:
        """Fresh leaves at the float network; only of what is asked for do they need gradients."""
        kept = {n: torch.from_numpy(w.copy()).requires_grad_(weights) for n, w in self.kept.items()}
        added = {
            name: torch.zeros(op.x.type.shape, requires_grad=inputs)
            for name, op in self.layers.items()
        }
        return Leaves(kept, added)

    def run(
        self, chunk: Sequence[Array], at: Leaves, watch: Watch | None = None
    ) -> tuple[torch.Tensor, ...]:
        added = [t for name in self.layers for t in (at.weights[name], at.inputs[name])]
        return self._program(*chunk, *added, watch=watch)


class FreshNames:
    """Names that no value of a graph has, so that all of its values keep theirs."""

    def __init__(self, graph: Graph) -> None:
        self._taken = {v.name for v in graph.values}

    def of(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _opened(graph: Graph, layers: Mapping[str, Layer]) -> Graph:
    """conv(x, constant) -> conv(x + input, input)"""
    builder = Builder(graph.name, graph.stage)
    now: dict[str, Value] = {v.name: builder.input(v.name, v.type) for v in graph.inputs}
    fresh = FreshNames(graph)
    opened = {
        name: (
            builder.input(fresh.of(f"{name}_weights"), op.w.type),
            builder.input(fresh.of(f"{name}_added"), op.x.type),
        )
        for name, op in layers.items()
    }
    for op in graph.ops:
        new = op.rebind(lambda v: now[v.name])
        if op.names[0] in opened:
            assert isinstance(new, Layer)
            w, d = opened[op.names[0]]
            new = replace(new, x=builder.add(Add(new.x, d), fresh.of(f"{d.name}_sum")), w=w)
        now.update(zip(op.names, builder.add_all(new), strict=True))
    outputs = [now[v.name] for v in graph.outputs]
    return builder.finish(outputs, graph.output_names).without_dead_code()


def rademacher(like: Mapping[str, torch.Tensor], seed: Sequence[int]) -> dict[str, torch.Tensor]:
    """+1 or -1 for each element, the same for the same seed on every machine."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.integers(0, 2, x.shape, np.int8).astype(np.float32) * 2 - 1)
        for name, x in like.items()
    }
