"""Values of layers that share weights share a range where theirs are near."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.ops import Add, Constant, Linear, Tanh
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import Ranges, calibrate
from qir.passes.infra.manager import Record
from qir.passes.quantize.quantize_graph import QuantizeGraph
from qir.passes.quantize.repeats import with_shared_ranges

STEPS = 4


def recurrence(gains: Array) -> Graph:
    """h[t] = tanh(x[t] W gain[t] + h[t-1] U); steps of unlike gains have weights of their own."""
    rng = np.random.default_rng(0)
    builder = Builder("recurrence", "canonical")
    xs = [builder.input(f"x{t}", Tensor((1, 8), F32)) for t in range(STEPS)]
    w = rng.normal(0, 0.3, (8, 8)).astype(np.float32)
    u = w.T / 32  # a small part of each step, so that all steps reach about as far
    inward = {g: builder.add(Constant.of(g * w, F32), f"w{g}") for g in sorted(set(gains.tolist()))}
    back = builder.add(Constant.of(u, F32), "u")
    h = builder.add(Tanh(builder.add(Linear(xs[0], inward[gains[0]], None), "i0")), "h0")
    for t in range(1, STEPS):
        inner = builder.add(Linear(xs[t], inward[gains[t]], None), f"i{t}")
        total = builder.add(Add(inner, builder.add(Linear(h, back, None), f"r{t}")), f"s{t}")
        h = builder.add(Tanh(total), f"h{t}")
    return builder.finish([h])


def ranges_of(graph: Graph, spread: float = 1.0) -> Ranges:
    rng = np.random.default_rng(1)
    scales = [spread**t for t in range(STEPS)]
    return calibrate(graph, [tuple(rng.normal(0, s, (512, 8)).astype(np.float32) for s in scales)])


def test_the_steps_of_a_recurrence_share_their_scales() -> None:
    graph = recurrence(np.ones(STEPS))
    record = Record("quantize-graph", QuantizeGraph.claim)
    simulated = QuantizeGraph(ranges=ranges_of(graph)).run(graph, record)
    quants = {v.name: v.type.elem for op in simulated.ops for v in op.results}
    for name in ("s", "h"):
        assert len({str(quants[f"{name}{t}_q"]) for t in range(1, STEPS)}) == 1


def test_the_shared_range_holds_every_member() -> None:
    graph = recurrence(np.ones(STEPS))
    before = ranges_of(graph)
    after = with_shared_ranges(graph, before)
    for names in (["s1", "s2", "s3"], ["x0", "x1", "x2", "x3"]):
        assert after.of(names, 256) == before.of(names, 256)
        assert {after.of([name], 256) for name in names} == {before.of(names, 256)}


@pytest.mark.parametrize("name", ["x0", "x3"])
def test_ranges_far_apart_stay_as_they_are(name: str) -> None:
    graph = recurrence(np.ones(STEPS))
    before = ranges_of(graph, spread=3.0)
    assert with_shared_ranges(graph, before).of([name], 256) == before.of([name], 256)


def test_layers_of_unlike_weights_share_nothing() -> None:
    graph = recurrence(np.array([1.0, 1.1, 1.2, 1.3]))
    before = ranges_of(graph)
    after = with_shared_ranges(graph, before)
    for name in ("x0", "x1", "i1"):
        assert after.of([name], 256) == before.of([name], 256)
