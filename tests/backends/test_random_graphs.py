"""A sample of the random graphs; `python -m tests.run_random_graphs --graphs 1000` runs more."""

from __future__ import annotations

import pytest

from qir.ir.ranges import prove_no_overflow
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.verify import verify
from tests.random_graphs import random_graph
from tests.run_random_graphs import check


@pytest.mark.parametrize("first", [100_000, 100_020])
def test_artifacts_equal_the_interpreter(first: int) -> None:
    assert check(range(first, first + 20), "cpu") == []


def test_artifacts_for_any_x86_equal_the_interpreter() -> None:
    assert check(range(100_040, 100_052), "x86-64") == []


@pytest.mark.parametrize("target", ["cpu", "x86-64"])
def test_artifacts_of_sequences_equal_the_interpreter(target: str) -> None:
    first = 300_000 if target == "cpu" else 300_020
    assert check(range(first, first + 10), target, "sequences") == []


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_are_well_formed(seed: int) -> None:
    graph = random_graph(seed)
    verify(graph)
    assert prove_no_overflow(graph)
    assert parse(text(graph), blobs(graph)) == graph == random_graph(seed)


@pytest.mark.parametrize("seed", range(20))
def test_random_sequences_are_well_formed(seed: int) -> None:
    graph = random_graph(seed, family="sequences")
    verify(graph)
    assert prove_no_overflow(graph)
    assert parse(text(graph), blobs(graph)) == graph
