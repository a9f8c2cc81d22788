"""The order of calls: which run at the same time, and where their buffers lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from qir.backends.kernels.kernel import RESULTS
from qir.backends.kernels.move import FrameCode
from qir.backends.kernels.plane import BYTES
from qir.backends.lowering import memory
from qir.backends.lowering.context import Call
from qir.backends.lowering.jobs import Use, branches, jobs
from qir.backends.lowering.layout import BUFFER, CONSTANT, Root
from qir.backends.lowering.program import Buffer
from qir.backends.targets.generators import has_threads
from qir.ir.target import Target

Jobs = Sequence[Sequence[int]]
"""The numbers of the calls of each job."""

MORE, FREE_BYTES = 32, 1 << 14
"""The workspace that jobs may cost: a part of what is needed without them, and some bytes."""


@dataclass(frozen=True)
class Schedule:
    """The jobs, each of one call where there are no threads, and the buffers of the workspace.

    In a job calls of few units come first: what cannot be cut begins before what can. `branches`:
    the fork and the branch of calls that are on one.
    """

    jobs: Jobs
    buffers: tuple[Buffer, ...]
    branches: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def scheduled(calls: Sequence[Call], roots: Mapping[str, Root], target: Target) -> Schedule:
    """The order of calls and the plan of memory that is best for the target."""
    alone = [[i] for i in range(len(calls))]
    apart = _lives(alone, calls, roots, target.alignment)
    if has_threads(target):
        bound = memory.max_live(apart)
        most_bytes = bound + bound // MORE + FREE_BYTES
        sizes = {b.name: memory.aligned(b.size_bytes) for b in apart}
        uses = [tuple(_uses(call, roots)) for call in calls]
        found = jobs(uses, sizes, most_bytes)
        together = [sorted(job, key=lambda i: calls[i].kernel.units) for job in found]
        lives = _lives(together, calls, roots, target.alignment)
        plan = memory.plan(lives)
        if plan.total_bytes <= most_bytes:
            buffers = _buffers(together, lives, plan, roots)
            return Schedule(together, buffers, branches(uses, together))
    return Schedule(alone, _buffers(alone, apart, memory.plan(apart), roots))


def _uses(call: Call, roots: Mapping[str, Root]) -> Iterator[Use]:
    """What a call touches of all that is written; of memory with a frame it may read all."""
    is_frame = isinstance(call.kernel.code, FrameCode)
    for name, place in call.places.items():
        if place is None or (root := roots[place.root]).kind == CONSTANT:
            continue
        key = root.name if root.kind == BUFFER else f"{root.kind} {root.index}"
        is_written = name in RESULTS
        if not is_written and root.fill is not None and root.outer is not None:
            place = root.outer
        yield Use(key, place, is_written, is_frame)


def _lives(
    each: Jobs, calls: Sequence[Call], roots: Mapping[str, Root], alignment: int
) -> list[memory.Lifetime]:
    """The roots of the workspace, alive from the first job that uses them to the last."""
    uses: dict[str, list[int]] = {}
    for number, job in enumerate(each):
        for place in (place for i in job for place in calls[i].places.values()):
            if place is not None:
                uses.setdefault(place.root, []).append(number)
    lives = []
    for name, at in uses.items():
        root = roots[name]
        if root.kind == BUFFER:
            size = memory.aligned(root.size * BYTES[root.dtype], alignment)
            lives.append(memory.Lifetime(name, size, min(at), max(at)))
    return lives


def _buffers(
    each: Jobs,
    lives: Sequence[memory.Lifetime],
    plan: memory.MemoryPlan,
    roots: Mapping[str, Root],
) -> tuple[Buffer, ...]:
    """The buffers with their offsets, in use for all of their first and last jobs."""
    ends = [*accumulate(map(len, each))]
    return tuple(
        Buffer(
            b.name, _about(roots[b.name]), b.size_bytes, offset,
            ends[b.first] - len(each[b.first]), ends[b.last] - 1,
        )
        for b, offset in zip(lives, plan.offsets, strict=True)
    )  # fmt: skip


def _about(root: Root) -> str:
    shape = "x".join(map(str, root.outer.shape)) if root.outer is not None else str(root.size)
    return f"{root.dtype}[{shape}]"
