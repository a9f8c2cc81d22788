"""What is asked for, the rules a graph brings, and the plan that follows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Concat, Constant, Conv, Relu
from qir.ir.types import F32, Tensor
from qir.passes.bits.choice import Bits
from qir.passes.bits.costs import LATENCY, SIZE
from qir.passes.mixed_precision import (
    MixedPrecision,
    graph_rules,
    layer_ops,
    layer_works,
    plan_bits,
)

W4, W8 = Bits(4, 8), Bits(8, 8)


class Net(Builder):
    def __init__(self) -> None:
        super().__init__("net", "transformed")
        self.x = self.input("x", Tensor((1, 4, 4, 2), F32))

    def conv(self, x: Value, name: str, out: int = 2) -> Value:
        w = self.add(Constant.of(np.ones((out, 1, 1, x.type.shape[3]), np.float32)))
        return self.add(Conv(x, w, None, (1, 1), (0, 0, 0, 0), (1, 1), 1), name)

    def relu(self, x: Value) -> Value:
        return self.add(Relu(x))


def residual() -> Graph:
    """first -> (a, then b) + (skip) -> (left, right concatenated) -> last"""
    net = Net()
    x = net.relu(net.conv(net.x, "first"))
    b = net.conv(net.relu(net.conv(x, "a")), "b")
    y = net.relu(net.add(Add(b, net.conv(x, "skip"))))
    sides = net.relu(net.conv(y, "left")), net.relu(net.conv(y, "right"))
    return net.finish([net.conv(net.add(Concat(sides, 3)), "last")])


def losses(graph: Graph, **worst: float) -> dict[str, dict[Bits, float]]:
    names = [op.names[0] for op in layer_ops(graph)]
    return {n: {W4: worst.get(n, 1.0), W8: worst.get(n, 1.0) / 256} for n in names}


def test_layers_that_meet_are_tied_and_ends_are_fixed() -> None:
    rules = graph_rules(residual(), MixedPrecision(size=0.5))
    assert [set(tie) for tie in rules.ties] == [{"b", "skip"}, {"left", "right"}]
    assert [set(tie) for tie in rules.activation_ties] == [{"a", "skip"}, {"left", "right"}]
    assert rules.fixed == {"first": W8, "last": W8}


def test_ties_and_ends_can_be_left_free() -> None:
    rules = graph_rules(residual(), MixedPrecision(size=0.5, ties=False, ends=None))
    assert not rules.ties and not rules.fixed


def test_work_is_counted() -> None:
    work = layer_works(residual())["last"]
    assert (work.parameters, work.macs, work.activations) == (8, 16 * 8, 16 * 4)


def test_the_plan_spends_where_it_hurts_most() -> None:
    graph = residual()
    plan = plan_bits(graph, MixedPrecision(size=0.5), losses(graph, a=100.0, left=50.0))
    wide = {name for name, bits in plan.best.bits.items() if bits == W8}
    assert {"first", "last", "a"} <= wide and "skip" not in wide
    assert plan.best.costs[SIZE] <= plan.limits[SIZE]
    assert plan.best.bits["b"] == plan.best.bits["skip"]
    assert plan.swept == SIZE and len(plan.front) > 2


def test_a_limit_on_latency_leaves_out_what_no_layer_takes() -> None:
    graph = residual()
    each = {n: {W4: 1.0, W8: 2.0} for n in losses(graph)}
    request = MixedPrecision(latency_us=30.0)
    plan = plan_bits(graph, request, losses(graph), each, rest_us=20.0)
    assert plan.limits == {LATENCY: 10.0} and plan.best.costs[LATENCY] <= 10.0
    with pytest.raises(PassError, match="latency_us: the limit is 5, at least 9 is needed"):
        plan_bits(graph, request, losses(graph), each, rest_us=25.0)


def test_four_bits_that_do_not_pay_are_not_taken() -> None:
    """A layer whose narrow kernel is slower keeps 8 bits under a limit on latency alone."""
    graph = residual()
    slow = {n: {W4: 3.0, W8: 2.0} if n == "a" else {W4: 1.0, W8: 2.0} for n in losses(graph)}
    plan = plan_bits(graph, MixedPrecision(latency=0.0), losses(graph), slow)
    narrow = {name for name, bits in plan.best.bits.items() if bits == W4}
    assert narrow == {"b", "skip", "left", "right"}


def test_averages_are_kept() -> None:
    graph = residual()
    plan = plan_bits(graph, MixedPrecision(weight_bits=6.0, ends=None), losses(graph))
    works = layer_works(graph)
    total = sum(works[n].parameters * b.weight for n, b in plan.best.bits.items())
    assert total <= 6.0 * sum(w.parameters for w in works.values())


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({}, "no limit is given, one of size, bops, latency, .* is needed"),
        ({"size": 4.5}, "size is 4.5, a share from 0 to 1 is needed"),
        ({"latency_us": math.nan}, "latency_us is nan, 0 or more is needed"),
        ({"size_bytes": -1.0}, "size_bytes is -1.0, 0 or more is needed"),
        ({"size": 0.5, "choices": ["w4a8"]}, "choices are w4a8, two or more are needed"),
    ],
)
def test_what_cannot_be_asked_for(asked: dict[str, Any], error: str) -> None:
    with pytest.raises(PassError, match=error):
        MixedPrecision(**asked)
