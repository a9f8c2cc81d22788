"""Probes of graphs whose values have the names that a probe would give its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Constant, Linear, Relu
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Tensor
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.sensitivity.measure import Effort, measure_sensitivities
from qir.passes.sensitivity.probe import Probe

X = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)


def residual(names: tuple[str, str, str]) -> Graph:
    """a(x) + x, then b, whose input is called names[0]; names[1:] are other values'."""
    rng, b = np.random.default_rng(0), Builder("residual", "transformed")

    def w(rows: int) -> Value:
        return b.add(Constant.of(rng.normal(size=(rows, 4)).astype(np.float32)), "w")

    x = b.input("x", Tensor((1, 4), F32))
    a = b.add(Linear(x, w(4), None), "a")
    total = b.add(Add(a, x), names[0])
    value = b.add(Relu(total), names[1])
    return b.finish([b.add(Linear(value, w(3), None), "b"), b.add(Relu(value), names[2])])


NAMES = (("add", "add1", "add2"), ("a_added_sum", "a_weights", "b_added"))


def test_a_probe_computes_the_graph_whatever_its_values_are_called() -> None:
    for names in NAMES:
        graph = residual(names)
        probe = Probe(graph, 1)
        shapes: dict[str, tuple[int, ...]] = {}
        outputs = probe.run(
            (X[:1],),
            probe.leaves(False, False),
            lambda v, x, to=shapes: to.__setitem__(v.name, tuple(x.shape)),
        )
        for y, expected in zip(outputs, run_float(graph, [X[:1]]), strict=True):
            assert torch.equal(y, torch.from_numpy(expected))
        assert all(shapes[v.name] == v.type.shape for v in graph.values if v.name in shapes)
        assert {"a", "b", *names} <= set(shapes)


def test_every_measure_takes_such_names() -> None:
    bits, effort = (Bits(4, 4), Bits(8, 8)), Effort(8, 0.5, 4)
    with ThreadPoolExecutor(1) as here:
        plain, clashing = (
            measure_sensitivities(
                g, calibrate(g, X), (X,), bits, effort=effort, executor=here
            ).values
            for g in map(residual, NAMES)
        )
    assert set(plain) == {"a", "b"}
    for layer in plain:
        for measure, value in plain[layer].items():
            assert np.isclose(value, clashing[layer][measure], rtol=1e-5), (layer, measure)
