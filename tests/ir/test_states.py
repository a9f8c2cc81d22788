"""States of graphs: their text, their rule, their interpreter, and what callers may give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.ir.errors import DataError, ParseError, VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.ops import Reshape, SliceRows, Take, WriteRows
from qir.ir.states import Limit, StateMemory, caller_inputs, caller_outputs, limits, shared_states
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.types import I8, I32, U8, Quant, Tensor
from qir.ir.verify import verify
from tests.backends.stateful_graphs import CHANNELS, entries, recurrent

ROWS, WIDTH, VOCABULARY = 10, 4, 7


def cached(tokens: int, name: str = "cache", start: str = "start") -> Graph:
    """Rows of a table by ids, written into a cache from `start` on: the rows, and the cache."""
    b = Builder("cached", "integer")
    q = Quant.per_tensor(I8, 0.5, 0)
    ids = b.input("ids", Tensor((1, tokens), I32))
    at = b.input(start, Tensor((), I32))
    table = b.input("table", Tensor((VOCABULARY, WIDTH), q))
    cache = b.input(name, Tensor((1, ROWS, WIDTH), q))
    flat = b.add(Reshape(ids, (tokens,)))
    rows = b.add(Reshape(b.add(Take(table, flat)), (1, tokens, WIDTH)))
    after = b.add(WriteRows(cache, rows, at), "after")
    graph = b.finish([rows, after], ["rows", "after"])
    return replace(graph, states=((name, "after"),))


@pytest.mark.parametrize("graph", [cached(3), recurrent(1), recurrent(4)])
def test_the_text_has_the_states(graph: Graph) -> None:
    verify(graph)
    assert parse(text(graph), blobs(graph)) == graph
    kept = ", ".join(f"%{before} = %{after}" for before, after in graph.states)
    assert text(graph).endswith(f"\n  states {kept}\n}}\n")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("states %cache = %after", "states %cache", "found '}', '=' is needed"),
        ("%cache = %after", "%none = %after", "found %none, a value defined before its use is"),
        ("states %cache = %after", "states", "found '}', a value such as %x is needed"),
    ],
)
def test_a_text_that_is_wrong_is_refused(old: str, new: str, why: str) -> None:
    with pytest.raises(ParseError, match=why):
        parse(text(cached(1)).replace(old, new))


@pytest.mark.parametrize(
    ("states", "why"),
    [
        ((("after", "after"),), "state %after: no input of the graph, one is needed"),
        ((("cache", "cache"),), "state %cache: no output of the graph, one is needed"),
        ((("cache", "after"), ("table", "after")), "state %after: output of 2 states, one is"),
        ((("cache", "after"), ("cache", "reshape1")), "state %cache: input of 2 states, one is"),
        ((("table", "after"),), "before, tensor<1x10x4xq<i8, 0.5:0>> after a call, one type is"),
    ],
)
def test_the_rule_of_states(states: tuple[tuple[str, str], ...], why: str) -> None:
    with pytest.raises(VerifyError, match="faults in states") as e:
        verify(replace(cached(1), states=states))
    assert why in str(e.value)


def test_names_that_change_change_in_states() -> None:
    graph = recurrent(2)
    renamed = graph.canonical()
    verify(renamed)
    assert [before for before, _ in renamed.states] == ["v1", "v2"]
    assert renamed.canonical() == renamed
    assert graph.mapped(lambda op, builder: op).states == graph.states


def test_callers_see_no_states() -> None:
    graph = recurrent(2)
    assert [v.name for v in caller_inputs(graph)] == ["x"]
    assert [name for _, name in caller_outputs(graph)] == ["y"]


def test_the_interpreter_keeps_states_from_call_to_call() -> None:
    graphs = entries()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, 8, CHANNELS)).astype(np.uint8)
    one, four = StateMemory(*graphs.values()), StateMemory(*graphs.values())
    logits = [four.call(graphs["prefill"], [x[:, i : i + 4]])[0] for i in (0, 4)]
    steps = [one.call(graphs["decode"], [x[:, i : i + 1]])[0] for i in range(8)]
    assert np.array_equal(np.concatenate(logits, 1), np.concatenate(steps, 1))
    assert all(np.array_equal(one.arrays[n], four.arrays[n]) for n in ("total", "recent"))
    assert np.array_equal(one.arrays["recent"], x[:, -3:])


def test_states_start_at_the_integer_of_zero() -> None:
    memory = StateMemory(recurrent(1))
    assert set(memory.arrays["total"].flat) == {5} and set(memory.arrays["recent"].flat) == {128}
    several = Quant.per_axis(U8, np.ones(2), np.array([0, 1]), 0)
    b = Builder("two", "integer")
    x = b.input("x", Tensor((2,), several))
    graph = replace(b.finish([x]), states=(("x", "x"),))
    with pytest.raises(VerifyError, match="state %x: 2 zero points, one is needed"):
        StateMemory(graph)


def test_one_name_has_one_type() -> None:
    other = cached(1)
    inputs = tuple(replace(v, type=v.type.with_shape((1, 11, 4))) if v.name == "cache" else v
                   for v in other.inputs)  # fmt: skip
    with pytest.raises(VerifyError, match=r"in one graph and tensor<1x11x4x.* in another"):
        shared_states([cached(1), replace(other, inputs=inputs)])


def test_indexes_and_positions_have_limits() -> None:
    assert limits(cached(3)) == (Limit(0, 0, VOCABULARY - 1), Limit(1, 0, ROWS - 3))
    assert limits(recurrent(1)) == ()


def test_the_tightest_limit_counts() -> None:
    b = Builder("rows", "integer")
    at = b.input("at", Tensor((), I32))
    tables = [b.input(f"t{n}", Tensor((n, 2), I8)) for n in (9, 5)]
    graph = b.finish([b.add(SliceRows(t, at, 3)) for t in tables])
    assert limits(graph) == (Limit(0, 0, 2),)


def test_the_interpreter_refuses_what_graphs_do() -> None:
    memory = StateMemory(recurrent(1))
    with pytest.raises(DataError, match="values reach"):
        memory.call(recurrent(1), [np.full((1, 1, CHANNELS), 256)])
