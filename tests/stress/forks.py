"""Forks while threads call: every child's calls end, with right values, and so do its own forks."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np

from qir import runtime
from tests.small_graphs import residual_network, stored_inputs

SECONDS = 120  # of a child, before it is ended


def check(path: Path, count: int) -> str:
    """`count` children, each of which calls, loads, closes, and forks one of its own."""
    session = runtime.load(path, threads=2)
    inputs = stored_inputs(residual_network())
    (expected,) = session.run_integer(*inputs)
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            assert np.array_equal(session.run_integer(*inputs)[0], expected)

    def child(depth: int) -> None:
        signal.alarm(SECONDS)
        for _ in range(3):
            assert np.array_equal(session.run_integer(*inputs)[0], expected)
        own = runtime.Session(session.loaded, threads=2)
        assert np.array_equal(own.run_integer(*inputs)[0], expected)
        if depth:
            _forked(child, depth - 1)
        own.close()
        session.close()
        assert np.array_equal(session.run_integer(*inputs)[0], expected)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for i in range(count):
            _forked(child, i % 2)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    return "every child ended with right values"


def _forked(run, depth: int) -> None:  # type: ignore[no-untyped-def]
    process = os.fork()
    if not process:
        status = 1
        try:
            run(depth)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(process, 0)
    assert status == 0, f"a child ended with status {status}"
