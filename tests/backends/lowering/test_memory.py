"""Memory plans: nothing that is alive overlaps, and the total is near the best possible."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qir.backends.lowering.memory import LEAST_ALIGNMENT, Lifetime, aligned, max_live, plan

LIVES = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 30), st.integers(0, 8)), max_size=30
).map(lambda rows: [Lifetime(f"b{i}", size, at, at + n) for i, (size, at, n) in enumerate(rows)])


@given(LIVES)
@settings(max_examples=200, deadline=None)
def test_what_is_alive_never_overlaps(buffers: list[Lifetime]) -> None:
    offsets = plan(buffers)
    ends = [at + aligned(b.size_bytes) for at, b in zip(offsets.offsets, buffers, strict=True)]
    for i, b in enumerate(buffers):
        assert offsets.offsets[i] % LEAST_ALIGNMENT == 0
        for j in range(i):
            apart = ends[i] <= offsets.offsets[j] or ends[j] <= offsets.offsets[i]
            assert apart or not b.overlaps(buffers[j])
    assert offsets.total_bytes == max(ends, default=0)
    assert offsets.bound_bytes == max_live(buffers) <= offsets.total_bytes


@given(LIVES)
@settings(max_examples=100, deadline=None)
def test_a_plan_needs_little_more_than_what_is_alive(buffers: list[Lifetime]) -> None:
    offsets = plan(buffers)
    assert offsets.total_bytes <= 1.2 * offsets.bound_bytes


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    sizes = [640, 1280, 64, 6400, 320, 128]
    chain = [Lifetime(f"b{i}", size, i, i + 1) for i, size in enumerate(sizes)]
    assert plan(chain).total_bytes == 6400 + 320


def test_a_narrow_waist_costs_nothing() -> None:
    """Most orders put the waist above its neighbours; one of them has to go beside it."""
    sizes = [128, 128, 128, 128, 8, 128, 128, 128]
    chain = [Lifetime(f"b{i}", size, i, i + 1) for i, size in enumerate(sizes)]
    offsets = plan(chain)
    assert offsets.total_bytes == offsets.bound_bytes


def test_no_buffers_need_nothing() -> None:
    offsets = plan([])
    assert (offsets.total_bytes, offsets.bound_bytes) == (0, 0)
