"""Jobs: steps that may run at the same time, because none touches what another one writes.

Steps are taken in their order, and each goes into the first job behind all that it depends on in
which the memory still suffices, else into a new one at the end. So steps that depend on nothing
but each other's predecessors stand side by side, there are as many jobs as the longest chain has
steps, and a program that is one chain stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qir.backends.lowering.place import Place

MOST_STEPS = 1024
"""Steps of a job: the work of all is counted in 31 bits."""
FAR = 256
"""Jobs that a step looks back over: what it costs to order a program stays linear."""


@dataclass(frozen=True)
class Use:
    """Elements that a step reads or writes of a piece of memory.

    `is_frame`: it writes what is around the elements that others write, and nothing else there.
    """

    memory: str
    place: Place
    is_written: bool = False
    is_frame: bool = False

    def excludes(self, other: Use) -> bool:
        """Whether the two may not be at the same time."""
        if self.memory != other.memory or not (self.is_written or other.is_written):
            return False
        if self.is_written and other.is_written and (self.is_frame or other.is_frame):
            return False
        return self.place.meets(other.place)


Uses = tuple[Use, ...]


def jobs(steps: Sequence[Uses], sizes: Mapping[str, int], most_bytes: int) -> list[list[int]]:
    """The numbers of the steps of each job, in their order.

    `sizes`: of each buffer, in bytes; nowhere more than `most_bytes` of them are alive, if that is
    so where each step has a job of its own.
    """
    bundles = [*_bundles(steps)]
    uses = [tuple(use for number in bundle for use in steps[number]) for bundle in bundles]
    schedule = _Schedule(uses, sizes, most_bytes)
    for bundle, each in zip(bundles, uses, strict=True):
        schedule.add(bundle, each)
    return schedule.jobs


def _bundles(steps: Sequence[Uses]) -> Iterator[list[int]]:
    """Steps that stay together: frames, and the step behind them, which mostly writes inside."""
    frames: list[int] = []
    for number, uses in enumerate(steps):
        if uses and all(use.is_frame for use in uses):
            frames.append(number)
            continue
        bundle = [f for f in frames if not _exclude(steps[f], uses)]
        yield from ([f] for f in frames if f not in bundle)
        yield [*bundle, number]
        frames = []
    yield from ([f] for f in frames)


def _exclude(one: Uses, other: Uses) -> bool:
    return any(a.excludes(b) for a in one for b in other)


def branches(steps: Sequence[Uses], order: Sequence[Sequence[int]]) -> dict[int, tuple[int, int]]:
    """Of steps that several machines could share, the number of the fork and of the branch.

    A fork begins behind a job of one step, and with a job of which all steps depend on several
    branches. A step that depends on none of the fork begins a branch, and what depends on one
    branch goes on with it. Frames are on none: they are data.
    """
    forks = [fork for fork in _forks(steps, order) if fork]
    return {number: (at, of) for at, fork in enumerate(forks) for number, of in fork.items()}


def _forks(steps: Sequence[Uses], order: Sequence[Sequence[int]]) -> Iterator[dict[int, int]]:
    fork = _Fork()
    for job in order:
        inside = [n for n in job if not all(use.is_frame for use in steps[n])]
        if len(inside) == 1 or all(len(fork.before(steps[n])) > 1 for n in inside):
            yield fork.branches
            fork = _Fork()
        if len(inside) > 1:
            for number in inside:
                fork.add(number, steps[number])
    yield fork.branches


class _Fork:
    """Branches side by side; of each step, those that it is on or behind."""

    def __init__(self) -> None:
        self.behind: dict[int, set[int]] = {}
        self.uses: dict[str, list[tuple[Use, int]]] = {}
        self.count = 0

    def before(self, uses: Uses) -> set[int]:
        """The branches that these depend on."""
        return set[int]().union(*(
            self.behind[number] for use in uses for other, number in self.uses.get(use.memory, ())
            if use.excludes(other)
        ))  # fmt: skip

    def add(self, number: int, uses: Uses) -> None:
        before = self.before(uses)
        if not before:
            before, self.count = {self.count}, self.count + 1
        self.behind[number] = before
        for use in uses:
            self.uses.setdefault(use.memory, []).append((use, number))

    @property
    def branches(self) -> dict[int, int]:
        """The branch of each step that is on one, where there are several."""
        on_one = {n: min(before) for n, before in self.behind.items() if len(before) == 1}
        return on_one if self.count > 1 else {}


class _Schedule:
    """Jobs so far, and the bytes that are alive in each; what a later step uses, to the end."""

    def __init__(self, steps: Sequence[Uses], sizes: Mapping[str, int], most_bytes: int) -> None:
        self.sizes, self.most_bytes = sizes, most_bytes
        self.jobs: list[list[int]] = []
        self.live: list[int] = []
        self.kept = 0  # bytes that are alive at the end
        self.spans: dict[str, tuple[int, int]] = {}  # the first and the last job of each buffer
        self.users = Counter(name for uses in steps for name in self._buffers(uses))
        self.uses: dict[tuple[str, bool], list[tuple[Use, int]]] = {}  # read or written, and when

    def add(self, numbers: list[int], uses: Uses) -> None:
        end = len(self.jobs)
        first = max(self._ready(uses), end - FAR)
        job = next((j for j in range(first, end) if self._fits(uses, j, len(numbers))), end)
        if job == end:
            self.jobs.append([])
            self.live.append(self.kept)
        self.jobs[job] += numbers
        self._keep(uses, job)
        for use in uses:
            self.uses.setdefault((use.memory, use.is_written), []).append((use, job))

    def _buffers(self, uses: Uses) -> set[str]:
        return {use.memory for use in uses if use.memory in self.sizes}

    def _ready(self, uses: Uses) -> int:
        """The first job behind all that these may not be at the same time with."""
        ready = 0
        for use in uses:
            for is_written in (True, False) if use.is_written else (True,):
                for other, job in self.uses.get((use.memory, is_written), ()):
                    if job >= ready and use.excludes(other):
                        ready = job + 1
        return ready

    def _fits(self, uses: Uses, job: int, count: int) -> bool:
        bytes_alive = zip(self.live[job:], self._change(uses, job), strict=True)
        is_small = len(self.jobs[job]) + count <= MOST_STEPS
        return is_small and all(now + more <= self.most_bytes for now, more in bytes_alive)

    def _change(self, uses: Uses, job: int) -> list[int]:
        """The bytes more that are alive from `job` on with these there."""
        end = len(self.live)
        change = [0] * (end - job)
        for name in self._buffers(uses):
            first, last = self.spans.get(name, (end, job))
            for at in range(job, first):
                change[at - job] += self.sizes[name]
            if self.users[name] == 1:  # nobody uses it later
                for at in range(max(job, last) + 1, end):
                    change[at - job] -= self.sizes[name]
        return change

    def _keep(self, uses: Uses, job: int) -> None:
        for at, more in enumerate(self._change(uses, job), job):
            self.live[at] += more
        for name in self._buffers(uses):
            if name not in self.spans:
                self.kept += self.sizes[name]
            first, last = self.spans.get(name, (job, job))
            self.spans[name] = min(first, job), max(last, job)
            self.users[name] -= 1
            if not self.users[name]:
                self.kept -= self.sizes[name]
