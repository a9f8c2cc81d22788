"""A small network with a residual block, and samples with correlated channels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Constant, Conv, Linear, ReduceMean, Relu
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.quantize.correct_bias import CorrectBias
from qir.passes.quantize.quantize_graph import QuantizeGraph
from qir.passes.rounding.base import RoundWeights


class Net(Builder):
    """Layers with random weights and biases."""

    def __init__(self) -> None:
        super().__init__("net", "canonical")
        self.rng = np.random.default_rng(5)
        self.x = self.input("x", Tensor((1, 6, 6, 4), F32))

    def constant(self, *shape: int) -> Value:
        return self.add(Constant.of(self.rng.normal(size=shape).astype(np.float32)))

    def conv(self, x: Value, name: str, outs: int, kernel: int, groups: int = 1) -> Value:
        pad = (kernel // 2,) * 4
        w = self.constant(outs, kernel, kernel, x.type.shape[3] // groups)
        return self.add(Conv(x, w, self.constant(outs), (1, 1), pad, (1, 1), groups), name)


def net() -> Graph:
    b = Net()
    first = b.add(Relu(b.conv(b.x, "first", 8, 3)), "first_relu")
    deep = b.add(Relu(b.conv(first, "depthwise", 8, 3, groups=8)), "depthwise_relu")
    around = b.add(Add(b.conv(deep, "point", 8, 1), first), "sum")
    pooled = b.add(ReduceMean(b.add(Relu(around), "sum_relu"), (1, 2), False), "pooled")
    return b.finish([b.add(Linear(pooled, b.constant(5, 8), b.constant(5)), "last")], ["y"])


def samples(count: int, seed: int = 0) -> Array:
    """(count, 6, 6, 4) normal, mixed over channels and smoothed over places."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(4, 4))
    x = rng.normal(size=(count, 7, 7, 4)) @ mix
    return (x[:, 1:, 1:] + x[:, :-1, 1:] + x[:, 1:, :-1]).astype(np.float32)


def simulated(graph: Graph, sample: Array, *rounding: RoundWeights, group: int = 0) -> Graph:
    """The graph with weights of 3 bits, rounded in these ways, and its biases corrected."""
    pairs = QuantizeGraph(calibrate(graph, sample, "min-max"), 3, 8, True, False, group)
    with ThreadPoolExecutor(1) as pool:
        ways = [
            one.on(graph, (sample,), one.executor or pool, one.store, one.tell) for one in rounding
        ]
        return Manager().run(graph, [pairs, *ways, CorrectBias(graph, (sample,))])
