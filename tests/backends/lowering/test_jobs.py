"""Jobs: which steps run at the same time, that they are independent, and the same bits."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from itertools import groupby, pairwise
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

from qir import runtime
from qir.backends import Artifact, build, find, lower
from qir.backends.c import dispatch
from qir.backends.kernels.kernel import RESULTS
from qir.backends.kernels.move import FrameCode
from qir.backends.lowering.jobs import FAR, Use, jobs
from qir.backends.lowering.jobs import branches as branches_of
from qir.backends.lowering.place import Place
from qir.backends.lowering.program import WEIGHTS, Argument, LoweredProgram, Step
from qir.backends.targets.generators import has_threads
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.op import Value
from qir.ir.ops import Concat
from qir.ir.types import Array
from tests.backends.c.test_entry import RUN, QirThreads
from tests.random_graphs import random_graph
from tests.small_graphs import Small, residual_network, stored_inputs
from tests.small_transformers import Shape, decoder

CPU = find("x86-64")


def branches(blocks: int = 2) -> Graph:
    """As of GoogLeNet: in each block, branches of one input lie side by side in one result."""
    b = Small("branches")
    x = b.image(1, 12, 12, 16)
    for _ in range(blocks):
        x = b.add(Concat(tuple(branch(b, x, kernels) for kernels in KERNELS), 3))
    return b.finish([b.requantize(b.conv(x, 8, kernel=1, pad=0), scale=0.2)])


KERNELS = ((1,), (1, 3), (3, 1))


def branch(b: Small, x: Value, kernels: tuple[int, ...]) -> Value:
    for kernel in kernels:
        x = b.requantize(b.conv(x, 12, kernel, kernel // 2))
    return x


def titles(program: LoweredProgram) -> list[str]:
    """The kinds of the steps of each job."""
    each = groupby(program.steps, key=lambda step: step.job)
    return [" ".join(step.title.split()[0] for step in job) for _, job in each]


# -- independence


def touched(program: LoweredProgram, step: Step, argument: Argument) -> Array:
    """Every byte of its memory that an argument stands for."""
    view, code = argument.view, program.codes[step.symbol]
    assert view is not None
    if isinstance(code, FrameCode):
        runs = code.first + np.arange(code.run) + code.pitch * np.arange(code.count)[:, None]
        ends = np.arange(code.head), code.last + np.arange(code.tail)
        image = np.concatenate([*ends, runs.ravel()])
        elements = (image + code.pitch_n * np.arange(code.batch)[:, None]).ravel()
    else:
        elements = np.zeros((), np.int64)
        for size, stride in zip(view.shape, view.strides, strict=True):
            elements = elements[..., None] + stride * np.arange(size)
    at = argument.address.offset + view.item * elements.reshape(-1, 1) + np.arange(view.item)
    return np.unique(at)


def arguments(program: LoweredProgram, steps: list[int]) -> Iterator[tuple[int, Argument, Array]]:
    for number in steps:
        step = program.steps[number]
        for argument in step.arguments:
            if argument.view is not None and argument.address.space != WEIGHTS:
                yield number, argument, touched(program, step, argument)


def assert_independent(program: LoweredProgram) -> None:
    """No byte that one step of a job writes is touched by another one of it."""
    for _, job in groupby(range(len(program.steps)), key=lambda i: program.steps[i].job):
        each = [*arguments(program, [*job])]
        writers: dict[tuple[str, int], dict[int, int]] = {}
        for number, argument, at in each:
            if argument.name in RESULTS:
                memory = writers.setdefault((argument.address.space, argument.address.index), {})
                assert all(memory.setdefault(byte, number) == number for byte in at.tolist())
        for number, argument, at in each:
            memory = writers.get((argument.address.space, argument.address.index), {})
            assert all(memory.get(byte, number) == number for byte in at.tolist())


@pytest.mark.parametrize("family", ["all", "sequences"])
def test_steps_of_a_job_are_independent(family: str) -> None:
    joined = 0
    for seed in range(40):
        program = lower(random_graph(seed, 12, family), CPU)
        assert_independent(program)
        joined += len(program.steps) - len(program.jobs)
    assert joined > 40


def test_branches_stand_side_by_side() -> None:
    program = lower(branches(), CPU)
    assert_independent(program)
    first, second = ["frame " * n + "conv conv conv" for n in (2, 1)]
    assert titles(program) == [
        "frame input", first, "conv conv", second, "conv conv", "conv",
    ]  # fmt: skip
    assert (len(program.jobs), len(program.steps)) == (6, 16)


def test_layers_of_a_decoder_are_few_jobs() -> None:
    program = lower(decoder(Shape(layers=1)), CPU)
    assert_independent(program)
    assert " | ".join(titles(program)) == DECODER


DECODER = (
    "slice_rows slice_rows embed rows rows | norm_fixed | row_scale | quantize_rows"
    " | linear linear linear | scale_rows scale_rows scale_rows | rope_fixed rope_fixed write_rows"
    " | row_scale write_rows output | quantize_rows output | attention_fixed"
    " | row_scale | quantize_rows | linear | scale_rows | norm_fixed | row_scale | quantize_rows"
    " | linear linear | scale_rows scale_rows | interpolate | mul | row_scale | quantize_rows"
    " | linear | scale_rows | norm_fixed | row_scale | quantize_rows | linear | scale_rows"
)
"""Of one layer, with caches that go in and out."""


def test_a_program_says_which_steps_are_of_one_job() -> None:
    lines = [line for line in lower(branches(), CPU).text.splitlines() if " units=" in line]
    shown = [int(re.findall(r" job=(\d+)  // ", line)[0]) for line in lines]
    assert Counter(shown) == {0: 2, 1: 5, 2: 2, 3: 4, 4: 2, 5: 1} and shown == sorted(shown)


def test_machines_without_threads_have_no_jobs() -> None:
    for name in ("cortex-m4", "hexagon-v68", "c"):
        program = lower(branches(), find(name))
        assert not has_threads(find(name)) and not program.has_jobs
        assert " job=" not in program.text


# -- the order


def reads(memory: str) -> Use:
    return Use(memory, Place.packed(memory, "int8", (64,)))


def writes(memory: str, at: int = 0, size: int = 64) -> Use:
    return Use(memory, Place("", "int8", (size,), (1,), at), is_written=True)


def chain(name: str, length: int) -> list[tuple[Use, ...]]:
    """From the input, each step from the buffer before."""
    buffers = ["x", *(f"{name}{i}" for i in range(length))]
    return [(reads(a), writes(b)) for a, b in pairwise(buffers)]


SIZES = {f"{name}{i}": 64 for name in "ab" for i in range(2 * FAR)}


def test_a_chain_stays_as_it_is() -> None:
    assert jobs(chain("a", 4), SIZES, 10**6) == [[0], [1], [2], [3]]


def test_two_chains_run_side_by_side() -> None:
    assert jobs([*chain("a", 3), *chain("b", 3)], SIZES, 10**6) == [[0, 3], [1, 4], [2, 5]]


def test_no_more_memory_is_taken_than_given() -> None:
    """Two chains at once need four buffers of 64, one needs two."""
    steps = [*chain("a", 3), *chain("b", 3)]
    assert jobs(steps, SIZES, 3 * 64) == [[0, 3], [1], [2], [4], [5]]
    assert jobs(steps, SIZES, 2 * 64) == [[0], [1], [2], [3], [4], [5]]


def test_a_step_looks_back_over_so_many_jobs() -> None:
    steps = [*chain("a", FAR + 10), *chain("b", 1)]
    assert jobs(steps, SIZES, 10**6)[10] == [10, FAR + 10]


def test_who_writes_waits_for_who_reads() -> None:
    steps = [(reads("x"), writes("a0")), (reads("a0"), writes("a1")), (writes("a0"),)]
    assert jobs(steps, SIZES, 10**6) == [[0], [1], [2]]
    halves = [(writes("a0", 0, 32),), (writes("a0", 32, 32),), (writes("a0", 31, 2),)]
    assert jobs(halves, SIZES, 10**6) == [[0, 1], [2]]


def test_a_frame_goes_with_who_writes_inside() -> None:
    frame = Use("a1", Place.packed("a1", "int8", (64,)), is_written=True, is_frame=True)
    inside = (reads("a0"), writes("a1", 8, 8))
    steps = [(reads("x"), writes("a0")), (frame,), inside, (reads("a1"), writes("a2"))]
    assert jobs(steps, SIZES, 10**6) == [[0], [1, 2], [3]]
    assert jobs([steps[0], (frame,), steps[3]], SIZES, 10**6) == [[0, 1], [2]]


def test_branches_are_what_several_machines_could_do() -> None:
    """Two forks; joins and frames are on no branch."""
    program = lower(branches(), CPU)
    of = [(s.title.split()[1], s.branch) for s in program.steps if s.branch is not None]
    assert of == [
        ("%conv", (0, 0)), ("%conv1", (0, 1)), ("%conv3", (0, 2)),
        ("%conv2", (0, 1)), ("%conv4", (0, 2)),
        ("%conv5", (1, 0)), ("%conv6", (1, 1)), ("%conv8", (1, 2)),
        ("%conv7", (1, 1)), ("%conv9", (1, 2)),
    ]  # fmt: skip


def test_what_depends_on_two_branches_is_on_none() -> None:
    join, apart = (reads("a0"), reads("b0"), writes("a1")), (reads("b0"), writes("b1"))
    steps = [*chain("a", 1), *chain("b", 1), join, apart, (reads("a1"), writes("a2"))]
    assert branches_of(steps, [[0, 1], [2, 3], [4]]) == {0: (0, 0), 1: (0, 1), 3: (0, 1)}
    assert branches_of(steps, [[0], [1], [2], [3], [4]]) == {}


@pytest.mark.parametrize("make", [branches, residual_network])
def test_the_workspace_hardly_grows(make: object) -> None:
    graph = make()  # type: ignore[operator]
    with patch("qir.backends.lowering.schedule.has_threads", return_value=False):
        apart = lower(graph, CPU)
    together = lower(graph, CPU)
    assert together.has_jobs and not apart.has_jobs
    most = apart.workspace_bytes + apart.workspace_bytes // 32 + 2**14
    assert together.workspace_bytes <= most


# -- the same bits


@cache
def built() -> Artifact:
    """With the least pieces that threads take, so that there are some."""
    with patch.object(dispatch, "THREAD_BYTES", 64):
        return build(branches(1), "cpu")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_give_the_interpreters_bits(threads: int) -> None:
    session = runtime.Session(runtime.from_files(built().files), threads=threads)
    for seed in range(8):
        inputs = stored_inputs(branches(1), seed)
        assert np.array_equal(session.run_integer(*inputs)[0], interpret(branches(1), inputs)[0])


def test_pieces_of_a_job_may_be_done_in_any_order() -> None:
    """A parallel-for of the caller's, which does the smallest pieces backwards."""
    results: list[tuple[int, int]] = []

    def run(pool: int, task: ctypes._FuncPointer, context: int, units: int, grain: int) -> None:
        results.append((units, grain))
        for begin, end in reversed([*pairwise([*range(0, units, grain), units])]):
            task(context, begin, end, begin % 3)

    threads = QirThreads(RUN(run), None, 3)
    session = runtime.Session(runtime.from_files(built().files))
    pool = SimpleNamespace(address=ctypes.addressof(threads))
    inputs = stored_inputs(branches(1))
    with patch.object(session, "_threads", nullcontext(pool)):
        (y,) = session.run_integer(*inputs)
    assert np.array_equal(y, interpret(branches(1), inputs)[0])
    program = built().program
    assert 0 < len(results) <= len(program.jobs) and max(results)[0] > 4 * dispatch.TICKS
    assert [s for s, _ in session.profile(*inputs)] == session.steps
    assert {s["job"] for s in session.steps} == set(range(len(program.jobs)))
