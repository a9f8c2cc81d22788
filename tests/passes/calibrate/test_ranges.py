"""Calibration: ranges, streaming, resuming, and what bad data says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from qir.ir.errors import DataError
from qir.ir.graph import Builder, Graph
from qir.ir.ops import Add, Constant, Exp, Relu, Reshape, Sub
from qir.ir.types import F32, I64, Array, Tensor
from qir.passes.calibrate import ranges as calibration
from qir.passes.calibrate.ranges import Ranges, calibrate
from qir.passes.transform.channel_ranges import channel_reach, first_samples
from tests.passes.random_floats import random_net, samples


def plain(batch: int = 1, crossed: bool = False) -> Graph:
    """relu(x - 1) + 1; `crossed` also reverses the role of batch and features."""
    b = Builder("plain", "canonical")
    x = b.input("x", Tensor((batch, 4), F32))
    one = b.add(Constant.of(np.float32(1)), "one")
    y = b.add(Add(b.add(Relu(b.add(Sub(x, one), "less")), "kept"), one), "y")
    return b.finish([b.add(Reshape(y, (4, batch)), "turned") if crossed else y])


def same(a: Ranges, b: Ranges) -> bool:
    if a.samples != b.samples or set(a.observations) != set(b.observations):
        return False
    for name, one in a.observations.items():
        other = b.observations[name]
        if (one.count, one.low, one.high) != (other.count, other.low, other.high):
            return False
        pair = (one.histogram, other.histogram)
        if pair != (None, None) and not np.array_equal(*(h.counts for h in pair if h)):
            return False
    return True


DATA = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_ranges_are_those_of_the_values() -> None:
    ranges = calibrate(plain(), DATA, "min-max")
    less = DATA - np.float32(1)
    assert ranges.samples == 50
    assert set(ranges.observations) == {"x", "less", "kept", "y"}  # no constants
    assert (ranges.observations["less"].low, ranges.observations["less"].high) == (
        less.min(),
        less.max(),
    )
    assert ranges.of(["kept"], 256) == (0, max(less.max(), 0))
    assert ranges.of(["y"], 256)[0] == 0  # y >= 1, and 0 must be exact


def test_batches_of_any_size_and_kind_give_the_same_ranges() -> None:
    ranges = calibrate(plain(), DATA)
    parts = calibrate(plain(), (DATA[i : i + 7] for i in range(0, 50, 7)))
    tuples = calibrate(plain(), [(DATA[:20],), [DATA[20:]]])
    tensors = calibrate(plain(), [torch.from_numpy(DATA)])
    assert all(same(ranges, other) for other in (parts, tuples, tensors))


def test_a_graph_that_cannot_be_remade_runs_batch_by_batch() -> None:
    crossed = calibrate(plain(crossed=True), DATA)
    assert same(crossed, calibrate(plain(crossed=True), DATA[:, None][:, 0]))
    straight = calibrate(plain(), DATA)
    assert crossed.observations["y"].high == straight.observations["y"].high


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LARGEST_CHUNK", 8)
    sizes = []
    kept = calibration.run_chunk

    def spy(graph: Graph, chunk: list[Array], *more: object) -> None:
        sizes.append(len(chunk[0]))
        kept(graph, chunk, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(calibration, "run_chunk", spy)
    calibrate(plain(), DATA)
    assert sizes == [8] * 6 + [2]


def test_progress_is_told_in_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LARGEST_CHUNK", 20)
    counts: list[int] = []
    calibrate(plain(), DATA, progress=counts.append)
    assert counts == [20, 40, 50]


class Stopped(Exception):
    pass


def until(count: int) -> Iterator[Array]:
    """The data, until somebody pulls the plug."""
    for i, row in enumerate(DATA):
        if i == count:
            raise Stopped
        yield row[None]


def test_an_interrupted_calibration_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "LARGEST_CHUNK", 8)
    monkeypatch.setattr(calibration, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(calibration, "SAVE_SHARE", 0)
    file = tmp_path / "state"
    with pytest.raises(Stopped):
        calibrate(plain(), until(30), state=file)
    runs = []
    kept = calibration.run_chunk
    monkeypatch.setattr(calibration, "run_chunk", lambda *a: (runs.append(a), kept(*a)))
    ranges = calibrate(plain(), until(99), state=file)
    assert len(runs) == 4  # of 7 chunks; 3 were seen before the plug was pulled
    monkeypatch.undo()
    monkeypatch.setattr(calibration, "LARGEST_CHUNK", 8)
    assert same(ranges, calibrate(plain(), DATA))
    runs.clear()
    assert same(ranges, calibrate(plain(), DATA, state=file)) and not runs


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    calibrate(plain(), DATA, state=file)
    with pytest.raises(DataError, match=r"state .*: graph \w{12}, \w{12} is needed\nhint: delete"):
        calibrate(random_net(1), samples(random_net(1), 3), state=file)
    with pytest.raises(DataError, match="histograms True, False is needed"):
        calibrate(plain(), DATA, "min-max", state=file)
    for other in (DATA[::-1], DATA[:20], DATA + 1):
        with pytest.raises(DataError, match="made from other data, the same first 50 samples"):
            calibrate(plain(), other, state=file)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    calibrate(plain(), DATA[:5], state=file)
    whole = file.read_bytes()
    for at in range(0, len(whole), 97):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"checksum is wrong|starts with"):
            calibrate(plain(), DATA, state=file)
    for size in (0, 5, 30, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"checksum is wrong|starts with"):
            calibrate(plain(), DATA, state=file)
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=r"cannot be read .Is a directory., read access is needed"):
        calibrate(plain(), DATA, state=file)


def bad(value: float) -> list[Array]:
    wrong = DATA[:6].copy()
    wrong[3, 2] = value
    return [DATA[:4], wrong]


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "calibration data: no samples, at least one is needed"),
        ([DATA[:0]], "calibration data: no samples, at least one is needed"),
        (bad(np.nan), "calibration batch 1: 1 NaN or infinite of 24 elements for input %x"),
        (bad(-np.inf), "calibration batch 1: 1 NaN or infinite of 24 elements for input %x"),
        ([DATA, DATA[:, :3]], r"batch 1: shape \[50, 3\] for input %x, any number of \[4\]"),
        ([DATA[0]], r"batch 0: shape \[4\] for input %x, any number of \[4\] is needed"),
        ([DATA.astype(complex)], "batch 0: dtype complex128 for input %x, tensor<1x4xf32> is"),
        ([np.array([["a"] * 4])], "batch 0: dtype <U1 for input %x"),
        ([(DATA, DATA)], "batch 0: 2 arrays, 1 inputs are needed"),
    ],
)
def test_bad_data_is_named(batches: list[Array], says: str) -> None:
    with pytest.raises(DataError, match=says):
        calibrate(plain(), batches)


def test_more_of_what_data_must_be() -> None:
    with pytest.raises(DataError, match=r"2 samples left over, a multiple of 4"):
        calibrate(plain(4, crossed=True), DATA)
    b = Builder("two", "canonical")
    x, y = (b.input(n, Tensor((1, 2), F32)) for n in "xy")
    two = b.finish([b.add(Add(x, y))])
    with pytest.raises(DataError, match=r"batch 0: \[3, 2\] samples, as many for each are needed"):
        calibrate(two, [(np.zeros((3, 2)), np.zeros((2, 2)))])
    whole_batch = Builder("whole", "canonical")
    whole_batch.input("t", Tensor((1, 2), I64))
    graph = whole_batch.finish([whole_batch.add(Relu(whole_batch.input("x", Tensor((1, 2), F32))))])
    with pytest.raises(DataError, match="dtype float64 for input %t"):
        calibrate(graph, [(np.zeros((3, 2)), np.zeros((3, 2)))])


def test_values_that_overflow_are_named() -> None:
    b = Builder("exp", "canonical")
    graph = b.finish([b.add(Exp(b.input("x", Tensor((1, 1), F32))), "e")])
    with pytest.raises(DataError, match=r"value %e reaches \[inf, inf\] after 0 samples, finite"):
        calibrate(graph, np.full((1, 1), 200.0))


def test_ranges_answer_only_for_what_was_seen() -> None:
    ranges = calibrate(plain(), DATA, "min-max")
    with pytest.raises(DataError, match="value %other was not observed"):
        ranges.of(["other"], 256)
    with pytest.raises(DataError, match="MinMax kept no histograms, Entropy needs them"):
        ranges.with_observer("entropy")
    assert calibrate(plain(), DATA, "mse").with_observer("min-max").of(["x"], 256) == ranges.of(
        ["x"], 256
    )


def test_the_first_samples_are_not_lost_to_a_stream() -> None:
    sample, rest = first_samples(plain(), (DATA[i : i + 3] for i in range(0, 50, 3)), 10)
    np.testing.assert_array_equal(sample[0], DATA[:10])
    np.testing.assert_array_equal(np.concatenate(list(rest)), DATA)
    reach = channel_reach(plain(), (DATA,))
    np.testing.assert_array_equal(reach["x"].of_all, np.abs(DATA).max(0).astype(np.float64))
