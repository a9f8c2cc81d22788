"""Observers: what is counted, and which range is chosen from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.errors import DataError
from qir.ir.types import Array
from qir.passes.calibrate.observers import (
    BINS,
    OBSERVERS,
    Entropy,
    Histogram,
    MeanSquaredError,
    MinMax,
    Observation,
    Observer,
    Percentile,
    observer_of,
)


def seen(x: Array, parts: int = 1) -> Observation:
    observation = Observation(x.size, float(x.min()), float(x.max()), Histogram())
    assert observation.histogram is not None
    for part in np.array_split(x, parts):
        if part.size:
            observation.histogram.add(torch, torch.from_numpy(part), float(np.abs(part).max()))
    return observation


def error(x: Array, low: float, high: float) -> float:
    """The mean squared error of rounding x to 256 levels of [low, high]."""
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return float(((np.clip(np.rint(x / scale), -zero, 255 - zero) * scale - x) ** 2).mean())


@given(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=1), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_histogram_is_the_same_in_whatever_parts_it_was_counted(
    values: list[float], parts: int
) -> None:
    x = np.array(values, np.float32)
    whole, split = seen(x).histogram, seen(x, parts).histogram
    assert whole is not None and split is not None
    split._reach(float(np.abs(x).max()))
    assert whole.exponent == split.exponent
    np.testing.assert_array_equal(whole.counts, split.counts)
    assert whole.counts.sum() == x.size


def test_every_value_falls_into_the_bin_around_it() -> None:
    x = np.array([-3.0, -0.5, 0.0, 0.5, 2.9999], np.float32)
    found = seen(x).histogram
    assert found is not None and found.exponent is not None
    at = np.flatnonzero(found.counts)
    assert len(at) == 5
    assert np.all(np.abs(found.centres[at] - x) <= 2.0**found.exponent / 2)


def test_merging_adds_the_counts_on_the_wider_grid() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=500).astype(np.float32), 50 * rng.normal(size=500).astype(np.float32)
    both, parts = seen(np.concatenate([a, b])), seen(a).merged(seen(b))
    assert both.histogram is not None and parts.histogram is not None
    np.testing.assert_array_equal(both.histogram.counts, parts.histogram.counts)
    assert (parts.low, parts.high, parts.count) == (both.low, both.high, 1000)


@pytest.mark.parametrize("observer", OBSERVERS.values(), ids=OBSERVERS)
def test_ranges_hold_zero_and_stay_within_what_was_seen(observer: Observer) -> None:
    rng = np.random.default_rng(1)
    for x in (rng.normal(size=5000), rng.exponential(size=5000), -rng.exponential(size=5000)):
        low, high = observer.range(seen(x.astype(np.float32)), 256)
        assert min(x.min(), 0) - 1e-6 <= low <= 0 <= high <= max(x.max(), 0) + 1e-6
        assert high > low


@pytest.mark.parametrize("observer", OBSERVERS.values(), ids=OBSERVERS)
def test_a_value_that_is_always_zero_has_the_empty_range(observer: Observer) -> None:
    assert observer.range(seen(np.zeros(10, np.float32)), 256) == (0.0, 0.0)


def test_mean_squared_error_beats_min_max_where_there_are_outliers() -> None:
    x = np.append(np.random.default_rng(2).normal(size=20000), [40.0]).astype(np.float32)
    wide, narrow = (o.range(seen(x), 16) for o in (MinMax(), MeanSquaredError()))
    assert narrow[1] < wide[1] == 40
    scale = [(h - lo) / 15 for lo, h in (wide, narrow)]
    assert scale[1] < scale[0]
    assert error(x, *MeanSquaredError().range(seen(x), 256)) <= error(x, *wide)


def test_percentile_leaves_out_the_share_it_says() -> None:
    x = np.linspace(0, 100, 100001, dtype=np.float32)
    low, high = Percentile(99.0).range(seen(x), 256)
    assert low == 0 and 98.9 <= high <= 99.1
    low, high = Percentile(99.0).range(seen(x - 50), 256)
    assert -49.6 <= low <= -49.4 and 49.4 <= high <= 49.6


def test_entropy_cuts_a_long_thin_tail() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(size=50000), rng.uniform(20, 60, 5)]).astype(np.float32)
    _, high = Entropy().range(seen(x), 16)
    assert high < 30


def test_entropy_does_not_collapse_onto_a_few_values() -> None:
    x = np.linspace(34000, 92000, 183, dtype=np.float32)
    assert Entropy().range(seen(x), 256) == (0, 92000)


def test_entropy_counts_no_zeros_of_a_relu() -> None:
    rng = np.random.default_rng(4)
    x = np.maximum(rng.normal(-1, 2, 20000), 0).astype(np.float32)
    dense = Entropy().range(seen(x[x > 0]), 256)
    zeros = np.zeros(200000, np.float32)
    assert Entropy().range(seen(np.concatenate([x, zeros])), 256) == dense
    assert Entropy().range(seen(zeros[:10] + np.float32(1e-3) * (np.arange(10) == 0)), 256)[1] > 0


@pytest.mark.parametrize("observer", [Entropy(), MeanSquaredError()])
def test_the_widest_of_equal_ranges_is_chosen(observer: Observer) -> None:
    x = np.asarray([0.0, 85.0, 170.0, 255.0], np.float32)  # exact in few steps of many
    assert observer.range(seen(x), 256)[1] == 255


def test_names() -> None:
    assert observer_of("mse") == MeanSquaredError()
    assert observer_of(MinMax()) == MinMax()
    with pytest.raises(DataError, match="observer 'median': not known, one of min-max, percentile"):
        observer_of("median")
    with pytest.raises(DataError, match=r"percentile observer: 20 %, more than 50 to 100"):
        Percentile(20)
    assert BINS % 4 == 0
