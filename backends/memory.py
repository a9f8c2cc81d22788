"""Buffers with lifetimes to offsets in one workspace: the least memory that good orders find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes; of every buffer, and of the workspace."""


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
class Plan:
    """Where each buffer lies.

    `total_bytes` of workspace, never less than `bound_bytes`: the most alive at once.
    """

    offsets: tuple[int, ...]
    total_bytes: int
    bound_bytes: int

    @property
    def overhead(self) -> float:
        """total / bound; 1 is the best possible."""
        return self.total_bytes / self.bound_bytes if self.bound_bytes else 1.0


def aligned(size: int, to: int = ALIGNMENT) -> int:
    return -(-size // to) * to


Key = Callable[[Lifetime], tuple[int, ...]]

ORDERS: tuple[Key, ...] = (
    lambda b: (-b.size_bytes, b.first),
    lambda b: (b.first, -b.size_bytes),
    lambda b: (-b.size_bytes * (b.last - b.first + 1), b.first),
    lambda b: (-(b.last - b.first), -b.size_bytes),
    lambda b: (-b.last, -b.size_bytes),
)


def plan(buffers: Sequence[Lifetime]) -> Plan:
    """Offsets such that what is alive at the same step does not overlap; the best of a few orders.

    Source: greedy by size and best fit as in Pisarchyk & Lee, arXiv:2001.03288; the set of orders
    is this project's.
    """
    bound = max_live(buffers)
    best: dict[int, int] = {}
    total: int | None = None
    for order in (*ORDERS, _by_pressure(buffers)):
        offsets = _place(buffers, order)
        size = max((offsets[i] + aligned(b.size_bytes) for i, b in enumerate(buffers)), default=0)
        if total is None or size < total:
            best, total = offsets, size
        if total == bound:
            break
    return Plan(tuple(best[i] for i in range(len(buffers))), total or 0, bound)


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
    """Buffers of the steps where most is alive go first: they decide the total."""
    steps = sorted({b.first for b in buffers})
    live = {s: sum(b.size_bytes for b in buffers if b.first <= s <= b.last) for s in steps}

    def key(b: Lifetime) -> tuple[int, ...]:
        return (-max(live[s] for s in steps if b.first <= s <= b.last), -b.size_bytes, b.first)

    return key


def _place(buffers: Sequence[Lifetime], order: Key) -> dict[int, int]:
    """Each buffer in turn into the smallest gap that fits among those it meets, else above them."""
    offsets: dict[int, int] = {}
    for i in sorted(range(len(buffers)), key=lambda i: (order(buffers[i]), i)):
        size = aligned(buffers[i].size_bytes)
        taken = sorted((at, at + aligned(buffers[j].size_bytes)) for j, at in offsets.items()
                       if buffers[j].overlaps(buffers[i]))  # fmt: skip
        offsets[i] = _gap(taken, size)
    return offsets


def _gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    at, best, best_room = 0, None, 0
    for begin, end in taken:
        room = begin - at
        if room >= size and (best is None or room < best_room):
            best, best_room = at, room
        at = max(at, end)
    return at if best is None else best
