"""Batches of several inputs: by order, by name, of unlike first sizes, of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qir.ir.errors import DataError
from qir.ir.graph import Builder, Graph
from qir.ir.ops import Add, Mul
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.transform.channel_ranges import channel_reach, first_samples

RNG = np.random.default_rng(0)
X, ANCHORS, GAIN = (
    RNG.normal(size=(6, 1, 4)).astype(np.float32),
    RNG.normal(size=(6, 3, 4)).astype(np.float32),
    RNG.normal(size=6).astype(np.float32),
)


def three() -> Graph:
    """(x + anchors) * gain: x (1, 4), anchors (3, 4), gain a number."""
    b = Builder("three", "canonical")
    x, anchors = b.input("x", Tensor((1, 4), F32)), b.input("anchors", Tensor((3, 4), F32))
    gain = b.input("gain", Tensor((), F32))
    return b.finish([b.add(Mul(b.add(Add(x, anchors), "moved"), gain), "y")])


def tuples() -> list[tuple[Array, ...]]:
    return list(zip(X, ANCHORS, GAIN, strict=True))


def test_each_run_takes_its_rows_of_every_input() -> None:
    ranges = calibrate(three(), tuples(), "min-max")
    expected = (X + ANCHORS) * GAIN[:, None, None]
    assert ranges.observations["y"].count == expected.size
    assert (ranges.observations["y"].low, ranges.observations["y"].high) == (
        expected.min(),
        expected.max(),
    )


def test_several_runs_in_one_batch_are_those_runs() -> None:
    joined = (X.reshape(6, 4), ANCHORS.reshape(18, 4), GAIN)
    one, other = (calibrate(three(), batches) for batches in (tuples(), [joined]))
    assert all(
        one.observations[n].high == other.observations[n].high
        for n in ("x", "anchors", "gain", "y")
    )


def test_a_mapping_is_read_by_names() -> None:
    items = [{"gain": g, "x": x, "anchors": a} for x, a, g in tuples()]
    one, other = (calibrate(three(), batches) for batches in (tuples(), items))
    assert one.observations["y"].low == other.observations["y"].low
    alone = {"gain": GAIN, "x": X.reshape(6, 4), "anchors": ANCHORS.reshape(18, 4)}
    assert calibrate(three(), alone).observations["y"].low == one.observations["y"].low


def test_channels_of_every_run_count() -> None:
    sample, rest = first_samples(three(), iter(tuples()))
    assert [x.shape for x in sample] == [(6, 4), (18, 4), (6,)]
    reach = channel_reach(three(), sample)["moved"].of_all
    assert np.array_equal(reach, np.abs(X + ANCHORS).max((0, 1)).astype(np.float64))
    assert len(list(rest)) == 6


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ((X[0], ANCHORS[0]), "calibration batch 0: 2 arrays, 3 inputs are needed"),
        ({"x": X[0], "gain": 1.0}, "batch 0: arrays for x, gain; x, anchors, gain are needed"),
        ((X[0], ANCHORS[0][:2], GAIN[0]), r"\[1, 2, 1\] samples, multiples of \[1, 3, 1\] are"),
        ((X[0], ANCHORS[0], GAIN[:2]), r"\[1, 3, 2\] samples, multiples of \[1, 3, 1\] are needed"),
        ((X[0, 0], ANCHORS[0], GAIN[0]), r"shape \[4\] for input %x, any number of \[4\] is"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(batch: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        calibrate(three(), [batch])
