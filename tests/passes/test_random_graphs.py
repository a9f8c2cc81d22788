"""A sample of random float graphs; `python -m tests.run_float_graphs --graphs 1000` runs more."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from qir.ir.graph import Graph
from qir.ir.ops import Add, Constant, Requantize
from qir.passes import pipelines
from qir.passes.calibrate.ranges import calibrate, run_of
from qir.passes.infra.manager import KEEPS_BITS, Claim, Manager, Pass, Pipeline, Record
from qir.passes.pipelines import TO_INTEGER, quantize
from tests import run_float_graphs
from tests.passes.random_floats import all_samples, wide_net
from tests.run_float_graphs import Result, check, steps_off


def test_every_claim_holds_from_float_to_integers() -> None:
    result = check(range(10_000, 10_010))
    assert result.faults == []
    assert result.stages["canonical"] == 3 * result.stages["imported"] == 30
    assert result.stages["integer"] >= 14, result.refusals
    assert result.compared > 150


# Convolutions whose weights come in blocks; a difference that is only float32's rounding; a value
# that is joined twice.
@pytest.mark.parametrize("seed", [458, 492, 10_162, 10_256])
def test_graphs_that_once_failed(seed: int) -> None:
    assert check(range(seed, seed + 1)).faults == []


def test_a_value_that_is_two_steps_off_is_found() -> None:
    graph = wide_net(3)
    x = all_samples(graph, 8)
    simulated = Manager().run(graph, quantize(calibrate(graph, [x], "min-max")))
    integer = Manager().run(simulated, TO_INTEGER)
    first = next(op for op in integer.ops if isinstance(op, Requantize))
    inputs = run_of(graph, x, 0)

    def shifted(by: int) -> str:
        """With `by` added to each result of the first requantize."""
        zero = int(first.to.zero_point.array)
        to = type(first.to).per_tensor(first.to.storage, float(first.to.scale.array), zero + by)
        wrong = replace(first, to=to, low=first.low, high=first.high)
        # its type stays: the interpreter computes with `to`, the graph says what it says
        wrong.__dict__["results"] = first.results
        ops = tuple(wrong if op is first else op for op in integer.ops)
        return steps_off(simulated, replace(integer, ops=ops), inputs, Result())

    assert shifted(0) == ""
    assert "steps off" in shifted(5)


@dataclass(frozen=True)
class Planted(Pass):
    """A pass with a fault."""

    name: ClassVar[str] = "planted"
    claim: ClassVar[Claim] = KEEPS_BITS

    change: Callable[[Graph], Graph] = lambda graph: graph
    rewrites: int = 0

    def run(self, graph: Graph, record: Record) -> Graph:
        record.rewrites = self.rewrites
        return self.change(graph)


def doubled(graph: Graph) -> Graph:
    """The first float constant, twice as large."""
    ops, found = [], False
    for op in graph.ops:
        if not found and isinstance(op, Constant) and op.result.type.is_float:
            op, found = replace(Constant.of(op.value.array * 2 + 1, op.elem), names=op.names), True
        ops.append(op)
    return replace(graph, ops=tuple(ops))


def turned(graph: Graph) -> Graph:
    """Every sum the other way around."""
    return replace(graph, ops=tuple(
        replace(op, a=op.b, b=op.a) if isinstance(op, Add) else op for op in graph.ops
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (Planted(doubled, 1), "pass planted: outputs differ by .*, Keeps: every bit is claimed"),
        (Planted(turned, 0), "pass planted: changes the graph with 0 rewrites on record"),
        (Planted(turned, 1), "canonicalize has something left to do"),
    ],
)
def test_a_pass_that_breaks_its_word_is_found(
    planted: Planted, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = (planted, *pipelines.CANONICALIZE.passes, planted)
    broken = Pipeline("canonicalize", "canonical", passes, rounds=1)
    monkeypatch.setattr(run_float_graphs, "CANONICALIZE", broken)
    faults = "\n".join(check(range(10_000, 10_006)).faults)
    assert re.search(fault, faults), faults
