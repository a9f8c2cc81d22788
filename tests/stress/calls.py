"""Calls from eight threads at once, floats and integers, all with right values."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from qir import runtime
from tests.small_graphs import residual_network, stored_inputs

CALLERS = 8


def check(path: Path, count: int) -> str:
    """`count` calls in all: half by a session without threads, half by one with two."""
    for threads in (1, 2):
        session = runtime.load(path, threads=threads)
        rng = np.random.default_rng(0)
        reals = [rng.normal(size=(1, 3, 16, 16)).astype(np.float32) for _ in range(CALLERS)]
        stored = [stored_inputs(residual_network(), i) for i in range(CALLERS)]
        expected = [
            (session(x), session.run_integer(*q)[0]) for x, q in zip(reals, stored, strict=True)
        ]
        _call(session, reals, stored, expected, count // 2 // CALLERS)
        session.close()
    return "right values"


def _call(session, reals, stored, want, rounds) -> None:  # type: ignore[no-untyped-def]
    wrong: list[int] = []

    def call(i: int) -> None:
        for k in range(rounds):
            y = session(reals[i]) if k % 2 else session.run_integer(*stored[i])[0]
            if not np.array_equal(y, want[i][not k % 2]):
                wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong, f"{len(wrong)} calls with wrong values"
