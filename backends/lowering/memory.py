"""Offsets of buffers with lifetimes in one workspace, with the least memory that is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LEAST_ALIGNMENT = 16
"""Bytes, of every buffer on any target; sizes that are multiples of a target's own alignment give
offsets that are.
"""


@dataclass(frozen=True)
class Lifetime:
    """`size_bytes` that are in use from step `first` to step `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """Where each buffer lies.

    `total_bytes` of workspace, never less than `bound_bytes`: the most alive at once.
    """

    offsets: tuple[int, ...]
    total_bytes: int
    bound_bytes: int


def aligned(size: int, to: int = LEAST_ALIGNMENT) -> int:
    return -(-size // to) * to


Key = Callable[[Lifetime], tuple[int, ...]]
Gap = Callable[[Sequence[tuple[int, int]], int], int]

PROMOTIONS, PAIRS = 100, 4_000_000
"""The number of retries of each order, and of pairs of buffers: planning ends in seconds."""

ORDERS: tuple[Key, ...] = (
    lambda b: (-b.size_bytes, b.first),
    lambda b: (b.first, -b.size_bytes),
    lambda b: (-b.size_bytes * (b.last - b.first + 1), b.first),
    lambda b: (-(b.last - b.first), -b.size_bytes),
    lambda b: (-b.last, -b.size_bytes),
)


def plan(buffers: Sequence[Lifetime]) -> MemoryPlan:
    """Offsets such that what is alive at the same step does not overlap; the best of a few orders,
    and of what comes from them by promotion.

    Source: greedy by size and best fit as in Pisarchyk & Lee, arXiv:2001.03288; the set of orders
    and promotion are this project's.
    """
    bound = max_live(buffers)
    best: dict[int, int] = {}
    total: int | None = None
    for offsets in _candidates(buffers):
        size = _total(buffers, offsets)
        if total is None or size < total:
            best, total = offsets, size
        if total == bound:
            break
    return MemoryPlan(tuple(best[i] for i in range(len(buffers))), total or 0, bound)


def _candidates(buffers: Sequence[Lifetime]) -> Iterator[dict[int, int]]:
    """Every order's plan, then the plans that promotion makes of them."""
    orders = [
        sorted(range(len(buffers)), key=lambda i: (order(buffers[i]), i))
        for order in (*ORDERS, _by_pressure(buffers))
    ]
    for order in orders:
        yield _place(buffers, order, _smallest_gap)
    for order in orders:
        yield from _promoted(buffers, order)


def _promoted(buffers: Sequence[Lifetime], order: list[int]) -> Iterator[dict[int, int]]:
    """Plans in which, again and again, the highest buffer is placed first.

    With the lowest gap for each buffer, some order gives a best plan.
    """
    for _ in range(min(PROMOTIONS, PAIRS // max(len(buffers), 1) ** 2)):
        offsets = _place(buffers, order, _lowest_gap)
        yield offsets
        highest = max(order, key=lambda i: offsets[i] + aligned(buffers[i].size_bytes))
        if highest == order[0]:
            return
        order = [highest, *(i for i in order if i != highest)]


def _total(buffers: Sequence[Lifetime], offsets: Mapping[int, int]) -> int:
    return max((offsets[i] + aligned(b.size_bytes) for i, b in enumerate(buffers)), default=0)


def max_live(buffers: Iterable[Lifetime]) -> int:
    """The most bytes alive at one step."""
    change: dict[int, int] = {}
    for b in buffers:
        change[b.first] = change.get(b.first, 0) + aligned(b.size_bytes)
        change[b.last + 1] = change.get(b.last + 1, 0) - aligned(b.size_bytes)
    live = most = 0
    for step in sorted(change):
        live += change[step]
        most = max(most, live)
    return most


def _by_pressure(buffers: Sequence[Lifetime]) -> Key:
    """Buffers of the steps with most bytes alive are placed first: they decide the total."""
    steps = sorted({b.first for b in buffers})
    live = {s: sum(b.size_bytes for b in buffers if b.first <= s <= b.last) for s in steps}

    def key(b: Lifetime) -> tuple[int, ...]:
        return (-max(live[s] for s in steps if b.first <= s <= b.last), -b.size_bytes, b.first)

    return key


def _place(buffers: Sequence[Lifetime], order: Iterable[int], gap: Gap) -> dict[int, int]:
    """Each buffer in turn into a gap among those it meets, else above them."""
    offsets: dict[int, int] = {}
    for i in order:
        size = aligned(buffers[i].size_bytes)
        ranges = sorted((at, at + aligned(buffers[j].size_bytes)) for j, at in offsets.items()
                       if buffers[j].overlaps(buffers[i]))  # fmt: skip
        offsets[i] = gap(ranges, size)
    return offsets


def _smallest_gap(ranges: Sequence[tuple[int, int]], size: int) -> int:
    at, best, best_room = 0, None, 0
    for begin, end in ranges:
        room = begin - at
        if room >= size and (best is None or room < best_room):
            best, best_room = at, room
        at = max(at, end)
    return at if best is None else best


def _lowest_gap(ranges: Sequence[tuple[int, int]], size: int) -> int:
    at = 0
    for begin, end in ranges:
        if begin - at >= size:
            return at
        at = max(at, end)
    return at
