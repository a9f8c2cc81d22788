"""No value leaves the range that is known of it, whatever the inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from qir.ir.graph import Graph
from qir.ir.op import REALS
from qir.ir.text.parser import parse
from qir.ir.torch_executor import run_op
from qir.ir.types import Array
from qir.passes.canonicalize.real_range import real_range
from qir.passes.infra.rewriter import Site
from tests.passes.float_graphs import FloatGraphs


def values_of(graph: Graph, inputs: Sequence[Array]) -> dict[str, Array]:
    env = dict(zip((v.name for v in graph.inputs), inputs, strict=True))
    for op in graph.ops:
        env[op.names[0]] = run_op(op, [env[v.name] for v in op.operands])
    return env


@pytest.mark.parametrize("pairs", [False, True])
def test_random_graphs_stay_in_their_ranges(pairs: bool) -> None:
    known = 0
    for seed in range(80):
        graph = FloatGraphs(seed, pairs).graph(3 + seed % 14)
        site, rng = Site(graph, "test"), np.random.default_rng(seed)
        ranges = {v.name: real_range(site, v) for v in graph.values if v.type.is_float}
        known += sum(r != REALS for r in ranges.values())
        for size in (0.0, 1.0, 100.0):
            shapes = [v.type.shape for v in graph.inputs]
            x = [(size * rng.standard_normal(s)).astype(np.float32) for s in shapes]
            for name, y in values_of(graph, x).items():
                if name not in ranges or not y.size or np.isnan(y).any():
                    continue
                low, high = ranges[name]
                assert low <= y.min() and y.max() <= high, (seed, name)
    assert known >= 200


def range_of(source: str) -> tuple[float, float]:
    graph = parse(f"graph @net stage=imported (%x: tensor<1x2x2x1xf32>) {{\n{source}\n}}")
    return real_range(Site(graph, "test"), graph.outputs[0])


POOL = "{kernel = [2, 2], stride = [1, 1], pad = [1, 1, 1, 1], dilation = [1, 1]"


@pytest.mark.parametrize(
    ("source", "low", "high"),
    [
        ("%y = sigmoid(%x) : tensor<1x2x2x1xf32>\nreturn %y", 0, 1),
        ("%y = relu(%x) : tensor<1x2x2x1xf32>\nreturn %y", 0, np.inf),
        (
            "%a = clip(%x) {low = 2.0, high = 3.0} : tensor<1x2x2x1xf32>\n"
            f"%y = avg_pool(%a) {POOL}, count_pad = true}} : tensor<1x3x3x1xf32>\nreturn %y",
            0,
            np.inf,  # a mean of floats may round beyond the greatest of them
        ),
        (
            "%a = clip(%x) {low = 2.0, high = 3.0} : tensor<1x2x2x1xf32>\n"
            f"%y = max_pool(%a) {POOL}}} : tensor<1x3x3x1xf32>\nreturn %y",
            2,
            3,
        ),
        (
            "%a = clip(%x) {low = 2.0, high = 3.0} : tensor<1x2x2x1xf32>\n"
            "%y = pad(%a) {before = [0, 1, 0, 0], after = [0, 0, 0, 0], between = [0, 0, 0, 0],"
            " mode = constant, value = -7.0} : tensor<1x3x2x1xf32>\nreturn %y",
            -7,
            3,
        ),
        (
            "%q = quantize(%x) {to = q<i8, 0.5:-28>, rounding = half_even}"
            " : tensor<1x2x2x1xq<i8, 0.5:-28>>\n"
            "%y = dequantize(%q) : tensor<1x2x2x1xf32>\nreturn %y",
            -50,
            77.5,
        ),
    ],
)
def test_ranges_that_are_known(source: str, low: float, high: float) -> None:
    assert range_of(source) == (low, high)
