"""Bits without a solver: the closed form and its rounding."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.errors import PassError
from qir.passes.bits.assign import assign
from qir.passes.bits.choice import Bits, evaluate
from qir.passes.bits.closed_form import THETA, allocate_bits, closed_form
from qir.passes.bits.costs import LayerWork, average_limits, measured_layer


def test_closed_form_is_baqs_for_equal_sizes() -> None:
    losses = {"a": 1.0, "b": 16.0, "c": 4.0}  # geometric mean 4
    expected = {"a": 4 - 2 / THETA, "b": 4 + 2 / THETA, "c": 4.0}
    assert closed_form(losses, 4) == pytest.approx(expected)


POSITIVE = st.floats(1e-9, 1e9)
UNITS = st.dictionaries(
    st.text("abcdefgh", min_size=1), st.tuples(POSITIVE, st.integers(1, 10**7)), min_size=1
)


@given(UNITS, st.floats(2, 8))
def test_closed_form_has_the_average_and_equal_slopes(
    units: dict[str, tuple[float, int]], average: float
) -> None:
    """At the minimum, one more bit gains the same loss for each parameter everywhere."""
    losses, sizes = ({k: pair[j] for k, pair in units.items()} for j in (0, 1))
    widths = closed_form(losses, average, sizes)  # type: ignore[arg-type]
    total = sum(sizes[k] * widths[k] for k in units)
    assert total == pytest.approx(average * sum(sizes.values()), rel=1e-6, abs=1e-6)
    slopes = [math.log2(losses[k] / sizes[k]) - THETA * widths[k] for k in units]
    assert max(slopes) == pytest.approx(min(slopes), abs=1e-6)


@given(UNITS, st.floats(2, 20), st.sets(st.sampled_from([2, 3, 4, 8, 16]), min_size=1))
def test_allocated_bits_keep_the_budget_and_leave_no_room(
    units: dict[str, tuple[float, int]], average: float, widths: set[int]
) -> None:
    losses, sizes = ({k: pair[j] for k, pair in units.items()} for j in (0, 1))
    steps = sorted(widths)
    average = max(average, float(steps[0]))
    assignment = allocate_bits(losses, steps, average, sizes)  # type: ignore[arg-type]
    left = average * sum(sizes.values()) - sum(sizes[k] * assignment[k] for k in units)
    assert set(assignment.values()) <= widths and left >= 0
    for k, bits in assignment.items():
        if bits < steps[-1]:
            assert (steps[steps.index(bits) + 1] - bits) * sizes[k] > left


def test_allocated_bits_by_hand() -> None:
    equal = dict.fromkeys("abcd", 1.0)
    assert allocate_bits(equal, (2, 4, 8), 4) == dict.fromkeys("abcd", 4)
    assert allocate_bits({"a": 1.0, "b": 1e4}, (4, 8), 6) == {"a": 4, "b": 8}
    assert allocate_bits({"a": 0.0, "b": 1.0}, (4, 8), 8) == {"a": 4, "b": 8}
    assert allocate_bits({"a": 0.0}, (4, 8), 8) == {"a": 4}


def test_the_closed_form_is_near_the_optimum() -> None:
    """On losses that follow its model, and never better than the exact answer."""
    losses = {f"l{k}": 3.0**k for k in range(8)}
    net = [
        measured_layer(
            name, {Bits(w, 8): c * 2 ** (-THETA * w) for w in (2, 4, 8)}, LayerWork(1, 1, 1)
        )
        for name, c in losses.items()
    ]
    widths = allocate_bits(losses, (2, 4, 8), 5)
    closed = evaluate(net, {name: Bits(w, 8) for name, w in widths.items()})
    best = assign(net, average_limits([LayerWork(1, 1, 1)] * 8, 5))
    assert best.loss <= closed.loss <= 1.5 * best.loss


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: allocate_bits({}, (4,), 4),
            "allocate-bits: no losses given, at least one is needed",
        ),
        (
            lambda: allocate_bits({"a": 1.0}, (4, 8), 3.5),
            "allocate-bits: the average is 3.5 bits, at least 4 is needed",
        ),
        (
            lambda: allocate_bits({"a": 1.0}, (), 4),
            "allocate-bits: the widths are [], one or more from 1 are needed",
        ),
        (
            lambda: allocate_bits({"a": -1.0}, (4,), 4),
            "allocate-bits a: the loss is -1.0, 0 or more is needed",
        ),
        (
            lambda: allocate_bits({"a": 1.0}, (4,), 4, {"b": 1}),
            "allocate-bits a: 0 parameters, at least 1 is needed",
        ),
        (
            lambda: closed_form({"a": 0.0}, 4),
            "allocate-bits a: the loss is 0, one above it is needed",
        ),
    ],
)
def test_what_the_closed_form_refuses(make: Any, text: str) -> None:
    with pytest.raises(PassError) as e:
        make()
    assert e.value.text == text
