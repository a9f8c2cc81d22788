"""Small integer graphs that tests build artifacts of, and one artifact that many tests share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from qir.backends.artifact.artifact import Artifact, build
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import (
    Concat,
    Constant,
    Conv,
    Linear,
    MaxPool,
    Requantize,
    Reshape,
    ScaleGroups,
    Transpose,
)
from qir.ir.types import I2, I3, I4, I5, I6, I8, I32, U8, Int, Quant, Tensor

LOW = (I2, I3, I4, I5, I6)


class Small(Builder):
    """A builder with the few shapes of op that these graphs need; numbers from a fixed seed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "integer")
        self.rng = np.random.default_rng(7)

    def requantize(
        self, *xs: Value, scale: float = 0.05, zero: int = 3, storage: Int = U8
    ) -> Value:
        ratios = [x.type.quant.scale.array / scale for x in xs]
        dyadics = Dyadic.with_common_shift(*ratios)
        mults, to = tuple(d.mult for d in dyadics), Quant.per_tensor(storage, scale, zero)
        low, high = storage.min, storage.max
        return self.add(Requantize(xs, to, mults, dyadics[0].shift, low, high, Rounding.HALF_UP))

    def weights(
        self, x: Value, shape: tuple[int, ...], storage: Int = I8, block: int = 0
    ) -> tuple[Value, Value]:
        """Weights, by groups of `block` input channels unless that is 0, and a bias."""
        count = shape[0]
        elem = Quant.per_axis(storage, self.rng.uniform(0.001, 0.01, count), 0, 0)
        values = self.rng.integers(storage.min + (storage is I8), storage.max + 1, shape)
        w = self.add(Constant.of(values, elem))
        scale = elem.scale.array * x.type.quant.scale.array
        quant = Quant.per_axis(I32, scale, 0, 0)
        bias = self.add(Constant.of(self.rng.integers(-3000, 3000, count), quant))
        if block:
            size = (*shape[:-1], -(-shape[-1] // block))
            mult = self.add(Constant.of(self.rng.integers(1, 256, size), U8))
            w = self.add(ScaleGroups(w, mult, block))
        return w, bias

    def conv(
        self,
        x: Value,
        out: int,
        kernel: int = 3,
        pad: int = 1,
        groups: int = 1,
        storage: Int = I8,
        block: int = 0,
    ) -> Value:
        shape = (out, kernel, kernel, x.type.shape[3] // groups)
        w, bias = self.weights(x, shape, storage, block)
        return self.add(Conv(x, w, bias, (1, 1), (pad,) * 4, (1, 1), groups))

    def linear(self, x: Value, out: int, storage: Int = I8, block: int = 0) -> Value:
        w, bias = self.weights(x, (out, x.type.shape[-1]), storage, block)
        return self.add(Linear(x, w, bias))

    def image(self, *shape: int, name: str = "x", storage: Int = U8, zero: int = 128) -> Value:
        return self.input(name, Tensor(shape, Quant.per_tensor(storage, 0.02, zero)))


def residual_network() -> Graph:
    """Transpose, three convolutions, one with a residual, max pool, linear: logits (1, 10)."""
    b = Small("small")
    t = b.add(Transpose(b.image(1, 3, 16, 16), (0, 2, 3, 1)))
    first = b.requantize(b.conv(t, 16))
    second = b.requantize(b.conv(first, 16), zero=7)
    added = b.requantize(b.conv(second, 16), first, scale=0.07)
    pooled = b.add(MaxPool(added, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))
    flat = b.add(Reshape(pooled, (1, 8 * 8 * 16)))
    logits = b.requantize(b.linear(flat, 10), scale=0.5, zero=0, storage=I8)
    return b.finish([logits], ["logits"])


def two_branches() -> Graph:
    """Two convolutions of one input, concatenated, then a padded convolution: two outputs."""
    b = Small("branches")
    x = b.image(1, 8, 8, 4, zero=0)
    left, right = (b.requantize(b.conv(x, c), zero=9) for c in (8, 24))
    both = b.add(Concat((left, right), 3))
    y = b.requantize(b.conv(both, 8), scale=0.2)
    return b.finish([y, left], ["y", "left"])


def low_bits() -> Graph:
    """For each width below 8 bits: depthwise, dense and grouped convolutions, linear layers."""
    b = Small("low_bits")
    graphs = []
    for i, (storage, channels) in enumerate(zip(LOW, (24, 33, 64, 96, 20), strict=True)):
        x = b.image(1, 9, 9, channels, name=f"x{i}", storage=I8 if i == 2 else U8, zero=3)
        large = b.requantize(b.conv(x, channels, 5, 2, channels, storage), scale=0.2)
        small = b.requantize(b.conv(large, channels, 3, 1, channels, storage), scale=0.2)
        dense = b.requantize(b.conv(small, 40, 3, 0, 1, storage), scale=1.0)
        parts = b.requantize(b.conv(dense, 24, 1, 0, 1, storage, block=16), scale=50.0)
        flat = b.add(Reshape(parts, (1, 7 * 7 * 24)))
        graphs += [b.linear(flat, 10, storage), b.linear(flat, 33, storage, block=64)]
    return b.finish(graphs)


def side_by_side(*graphs: Graph) -> Graph:
    """Several graphs in one, inputs and outputs in order, so that one artifact holds them all."""
    b = Builder(graphs[0].name, "integer")
    outputs: list[Value] = []
    for graph in graphs:
        now = {v.name: b.input(v.name, v.type) for v in graph.inputs}
        for op in graph.ops:
            results = b.add_all(op.rebind(lambda v, now=now: now[v.name]))
            now.update(zip(op.names, results, strict=True))
        outputs += [now[v.name] for v in graph.outputs]
    return b.finish(outputs)


@cache
def artifact(target: str = "cpu") -> Artifact:
    """The residual network's artifact, built once for all tests of a process."""
    return build(residual_network(), target)


def stored_inputs(graph: Graph, seed: int = 0) -> Sequence[np.ndarray]:  # type: ignore[type-arg]
    """Random stored integers for each input."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(v.type.quant.storage.min, v.type.quant.storage.max + 1, v.type.shape).astype(
            v.type.elem.carrier
        )
        for v in graph.inputs
    ]
