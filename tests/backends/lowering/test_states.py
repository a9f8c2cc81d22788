"""States in memory: in place where nothing reads what was there, and right where something does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find
from qir.backends.lowering.lower import lower
from qir.backends.lowering.program import STATE
from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Concat, Reshape, Slice, Transpose, WriteRows
from qir.ir.states import StateMemory, caller_inputs
from qir.ir.types import I8, I32, Array, Quant, Tensor
from qir.ir.verify import verify
from tests.small_graphs import Small

ROWS, WIDTH = 6, 16
ELEM = Quant.per_tensor(I8, 0.05, 0)


class States(Small):
    """A cache, new rows for it, and where they go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.cache = self.input("cache", Tensor((1, ROWS, WIDTH), ELEM))
        self.x = self.input("x", Tensor((1, 2, WIDTH), ELEM))
        self.start = self.input("start", Tensor((), I32))

    def written(self, cache: Value | None = None) -> Value:
        return self.add(WriteRows(cache or self.cache, self.x, self.start))

    def narrowed(self, value: Value) -> Value:
        return self.requantize(value, scale=0.1, zero=0, storage=I8)

    def done(self, outputs: list[Value], *states: tuple[Value, Value]) -> Graph:
        graph = self.finish([*outputs, *(after for _, after in states)])
        return replace(graph, states=tuple((a.name, b.name) for a, b in states))


def read_after() -> Graph:
    """The usual one: what is read is the new content."""
    b = States("read_after")
    y = b.written()
    return b.done([b.narrowed(y)], (b.cache, y))


def read_before() -> Graph:
    b = States("read_before")
    old = b.narrowed(b.cache)
    return b.done([old], (b.cache, b.written()))


def old_read_late() -> Graph:
    """The old content is read after the new one is there."""
    b = States("old_read_late")
    y = b.written()
    return b.done([b.requantize(b.cache, y, scale=0.1, zero=0, storage=I8)], (b.cache, y))


def old_seen_late() -> Graph:
    """The old content is read through a view that lies where it does."""
    b = States("old_seen_late")
    view = b.add(Reshape(b.cache, (ROWS * WIDTH,)))
    y = b.written()
    return b.done([b.narrowed(y), b.narrowed(view)], (b.cache, y))


def old_is_an_output() -> Graph:
    b = States("old_is_an_output")
    y = b.written()
    return b.done([b.cache, b.narrowed(y)], (b.cache, y))


def new_is_an_output() -> Graph:
    b = States("new_is_an_output")
    y = b.written()
    return b.done([y], (b.cache, y))


def written_twice() -> Graph:
    b = States("written_twice")
    y = b.written(b.written())
    return b.done([b.narrowed(y)], (b.cache, y))


def swapped() -> Graph:
    """Two states change places: neither may be written before the other is read."""
    b = States("swapped")
    other = b.input("other", b.cache.type)
    return b.done([b.narrowed(b.x)], (b.cache, other), (other, b.cache))


def kept() -> Graph:
    b = States("kept")
    return b.done([b.narrowed(b.cache)], (b.cache, b.cache))


def moved() -> Graph:
    """The next content is the old one, moved, with new rows behind it."""
    b = States("moved")
    rest = b.add(Slice(b.cache, (0, 2, 0), (1, ROWS, WIDTH), (1, 1, 1)))
    y = b.add(Concat((rest, b.x), 1))
    return b.done([b.narrowed(y)], (b.cache, y))


def turned() -> Graph:
    """A square state is transposed in place, which no copy onto itself can do."""
    b = States("turned")
    square = b.input("square", Tensor((1, WIDTH, WIDTH), ELEM))
    flipped = b.add(Transpose(square, (0, 2, 1)))
    return b.done([b.narrowed(b.x)], (square, flipped))


GRAPHS = (
    read_after, read_before, old_read_late, old_seen_late, old_is_an_output, new_is_an_output,
    written_twice, swapped, kept, moved, turned,
)  # fmt: skip


def inputs(graph: Graph, rng: np.random.Generator) -> list[Array]:
    return [
        np.array(rng.integers(0, ROWS - 1), np.int32)
        if not v.type.rank
        else rng.integers(-128, 128, v.type.shape).astype(np.int8)
        for v in caller_inputs(graph)
    ]


@pytest.mark.parametrize("target", ["cpu", "c"])
@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_calls_equal_the_interpreter(make: Callable[[], Graph], target: str) -> None:
    graph = make()
    verify(graph)
    session = runtime.Session(runtime.from_files(build(graph, target).files))
    rng, memory = np.random.default_rng(0), StateMemory(graph)
    values = {name: rng.integers(-128, 128, a.shape).astype(a.dtype)
             for name, a in memory.arrays.items()}  # fmt: skip
    state = session.new_state()
    for entry in session.manifest["states"]:
        a = values[entry["name"]]
        state[entry["offset"] : entry["offset"] + a.nbytes] = a.reshape(-1).view(np.uint8)
    memory.arrays.update(values)
    for _ in range(4):
        samples = inputs(graph, rng)
        outputs = session.entries["call"].run_integer(state, *samples)
        for y, expected in zip(outputs, memory.call(graph, samples), strict=True):
            assert np.array_equal(y, expected)
        for entry in session.manifest["states"]:
            expected = memory.arrays[entry["name"]]
            at = entry["offset"]
            assert state[at : at + expected.nbytes].tobytes() == expected.tobytes(), entry["name"]


IN_PLACE = {"read_after", "read_before", "new_is_an_output"}


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_rows_are_written_where_the_state_is(make: Callable[[], Graph]) -> None:
    program = lower(make(), find("cpu"))
    writes = [s for s in program.steps if "write_rows" in s.title]
    in_place = [
        s for s in writes
        if {a.address.space for a in s.arguments if a.name == "y"} == {STATE}
    ]  # fmt: skip
    assert (len(in_place) == 1) == (make.__name__ in IN_PLACE)


def test_states_lie_aligned_and_apart() -> None:
    program = lower(swapped(), find("cpu"))
    (a, b), size = program.states, ROWS * WIDTH
    assert a.offset == 0 and b.offset >= size and b.offset % find("cpu").alignment == 0
    assert program.state_bytes >= b.offset + size
    assert "  state %cache: tensor<1x6x16xq<i8, 0.05:0>> at 0\n" in program.text
