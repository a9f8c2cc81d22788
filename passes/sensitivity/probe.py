"""A float graph whose weights, and what is added to each layer's input, are inputs of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Add, Constant
from qir.ir.ops.kinds import Layer
from qir.ir.torch_executor import FloatProgram, Watch
from qir.ir.types import Array
from qir.passes.calibrate.ranges import rows_of
from qir.passes.infra.layers import float_layers, weights_of
from qir.passes.infra.manager import Miss
from qir.passes.infra.rebatch import rebatch

LIVE_ELEMENTS = 1 << 25  # values of a chunk that is differentiated twice: about 1 GiB in all


def layers_to_quantize(graph: Graph) -> dict[str, Layer]:
    """The layers with constant float weights, by name.

    Errors: PassError if there is none.
    """
    layers = float_layers(graph)
    if not layers:
        raise PassError(
            f"sensitivity @{graph.name}: no layer, a convolution or linear op with constant float "
            f"weights is needed"
        )
    return layers


def float_weights(graph: Graph, layer: Layer) -> Array:
    """(O, ..., I) float32"""
    weights = weights_of(graph, layer)
    assert weights is not None
    return weights


def for_samples(graph: Graph, count: int) -> Graph:
    """The graph that takes `count` samples at once.

    Errors: PassError that names the op which mixes samples, or the batch that does not divide.
    """
    batch = graph.inputs[0].type.shape[0] if graph.inputs[0].type.rank else 0
    if batch < 1 or count % batch:
        raise PassError(
            f"sensitivity @{graph.name}: {count} samples, a multiple of its batch {batch} is needed"
        )
    larger = rebatch(graph, count // batch)
    if isinstance(larger, Miss):
        raise PassError(f"sensitivity @{graph.name}: {larger.why} at %{larger.at}, samples that "
                        f"go their own ways are needed")  # fmt: skip
    return larger


def chunk_size(graph: Graph) -> int:
    """The number of samples for which all values of the graph fit in bounded memory."""
    batch = rows_of(graph.inputs[0])
    constant = {n for op in graph.ops if isinstance(op, Constant) for n in op.names}
    live = sum(v.type.size for v in graph.values if v.name not in constant)
    return batch * max(1, LIVE_ELEMENTS // max(1, live))


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
        self.layers = layers_to_quantize(larger)
        self.weights = {name: float_weights(larger, op) for name, op in self.layers.items()}
        self._program = FloatProgram(_opened(larger, self.layers))

    def leaves(self, weights: bool, inputs: bool) -> Leaves:
        """Fresh leaves at the float network; only of what is asked for do they need gradients."""
        leaf_weights = {
            n: torch.from_numpy(w.copy()).requires_grad_(weights) for n, w in self.weights.items()
        }
        leaf_inputs = {
            name: torch.zeros(op.x.type.shape, requires_grad=inputs)
            for name, op in self.layers.items()
        }
        return Leaves(leaf_weights, leaf_inputs)

    def run(
        self, chunk: Sequence[Array], at: Leaves, watch: Watch | None = None
    ) -> tuple[torch.Tensor, ...]:
        operands = [t for name in self.layers for t in (at.weights[name], at.inputs[name])]
        return self._program(*chunk, *operands, watch=watch)


def _opened(graph: Graph, layers: Mapping[str, Layer]) -> Graph:
    """conv(x, constant) -> conv(x + input, input)"""

    def opened(op: Op, builder: Builder) -> Op:
        if op.names[0] not in layers:
            return op
        assert isinstance(op, Layer)
        w = builder.input(f"{op.names[0]}_weights", op.w.type)
        d = builder.input(f"{op.names[0]}_added", op.x.type)
        return replace(op, x=builder.add(Add(op.x, d), f"{d.name}_sum"), w=w)

    return graph.mapped(opened)


def rademacher(like: Mapping[str, torch.Tensor], seed: Sequence[int]) -> dict[str, torch.Tensor]:
    """+1 or -1 for each element, the same for the same seed on every machine."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.integers(0, 2, x.shape, np.int8).astype(np.float32) * 2 - 1)
        for name, x in like.items()
    }
