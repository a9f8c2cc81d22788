"""Laws of the language on random graphs: text, structure, copies, bounds and proofs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qir.ir.errors import VerifyError
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.op import Loc, Value
from qir.ir.ranges import prove_no_overflow, value_bounds
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.types import Array, integer_of
from qir.ir.verify import verify
from tests.ir.graphs import IntegerGraphs

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 10)


def inputs(graph: Graph, seed: int) -> list[tuple[Array, ...]]:
    """Random inputs, all at the least, all at the greatest."""
    rng = np.random.default_rng(seed)
    results = []
    for draw in (None, "min", "max"):
        arrays = []
        for value in graph.inputs:
            storage = integer_of(value.type.elem)
            assert storage is not None
            random = rng.integers(storage.min, storage.max + 1, value.type.shape)
            arrays.append(random if draw is None else np.full_like(random, getattr(storage, draw)))
        results.append(tuple(arrays))
    return results


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES)
def test_printed_and_parsed_it_is_the_same_graph(seed: int, size: int) -> None:
    graph = IntegerGraphs(seed).graph(size)
    verify(graph)
    again = parse(text(graph), blobs(graph))
    assert again == graph
    assert text(again) == text(graph)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES)
def test_names_and_places_do_not_count(seed: int, size: int) -> None:
    graph = IntegerGraphs(seed).graph(size)
    renamed: dict[str, Value] = {v.name: v for v in graph.inputs}
    ops = []
    for op in graph.ops:
        fresh = op.rebind(lambda v: renamed[v.name]).named((f"other.{op.names[0]}",))
        renamed[op.names[0]] = fresh.result
        ops.append(fresh)
    outputs = tuple(renamed[v.name] for v in graph.outputs)
    other = Graph(graph.name, graph.inputs, tuple(ops), outputs, graph.output_names, graph.stage)
    verify(other)
    assert (other != graph) == bool(graph.ops)
    assert other.canonical() == graph.canonical()


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES)
def test_copies_know_what_was_known(seed: int, size: int) -> None:
    """named() and rebind() carry results over; they are what infer() would give."""
    graph = IntegerGraphs(seed).graph(size)
    for op in graph.ops:
        same_types = {v.name: Value(f"{v.name}.new", v.type) for v in op.operands}
        for copy in (op.named(("fresh",)), op.rebind(lambda v, new=same_types: new[v.name])):
            out = copy.infer()
            assert tuple(v.type for v in copy.results) == (
                out if isinstance(out, tuple) else (out,)
            )
            assert copy.loc == op.loc == Loc()


def is_proven(graph: Graph) -> bool:
    try:
        prove_no_overflow(graph)
    except VerifyError:
        return False
    return True


def test_most_random_graphs_are_proven() -> None:
    """Enough of the draws below are left."""
    graphs = [IntegerGraphs(seed).graph(1 + seed % 10) for seed in range(100)]
    assert sum(map(is_proven, graphs)) >= 70


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES)
def test_bounds_hold_every_value(seed: int, size: int) -> None:
    """No value leaves its bounds, on random inputs and at the ends; nor its storage, once
    proven.
    """
    graph = IntegerGraphs(seed).graph(size)
    assume(is_proven(graph))  # a graph that may overflow has no meaning to compare with
    bounds = value_bounds(graph)

    def watch(value: Value, array: Array) -> None:
        low, high = bounds[value.name].low, bounds[value.name].high
        if array.size:
            assert np.all(array.astype(object) >= low), value
            assert np.all(array.astype(object) <= high), value

    for x in inputs(graph, seed):
        interpret(graph, x, watch)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_dead_code_changes_nothing(seed: int, size: int) -> None:
    graph = IntegerGraphs(seed).graph(size)
    lean = graph.without_dead_code()
    assert len(lean.ops) <= len(graph.ops)
    for x in inputs(graph, seed):
        for a, b in zip(interpret(graph, x), interpret(lean, x), strict=True):
            np.testing.assert_array_equal(a, b)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES, st.integers(0, 10_000), st.sampled_from('%()[]{}<>,=:0z\n"'))
def test_damaged_text_is_an_error_or_a_graph(seed: int, size: int, at: int, char: str) -> None:
    """One character changed: our own error, or a graph that verifies or says why not."""
    from qir.ir.errors import QirError

    source = text(IntegerGraphs(seed).graph(size))
    at %= len(source)
    try:
        verify(parse(source[:at] + char + source[at + 1 :], blobs(IntegerGraphs(seed).graph(size))))
    except QirError as e:
        assert e.text


def test_an_overflow_is_refused() -> None:
    graph = parse(
        """graph @wide stage=integer (%x: tensor<1x66000xq<i16, 1.0:0>>) {
          %y = reduce_sum(%x) {axes = [1], keep = false} : tensor<1xq<i32, 1.0:0>>
          return %y
        }"""
    )
    with pytest.raises(VerifyError, match=r"\[-2162688000, 2162622000\], i32 does not hold"):
        prove_no_overflow(graph)
