"""Threads of sessions: shared by the process, given back, waited for, and none after a fork."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qir import runtime
from qir.runtime import ArtifactError, box
from qir.runtime.library import Library
from qir.runtime.threads import Pool, Threads
from tests.small_graphs import artifact, residual_network, stored_inputs

INPUTS = stored_inputs(residual_network())


@pytest.fixture(scope="module")
def loaded() -> runtime.Loaded:
    return runtime.from_files(artifact().files)


def native_threads() -> int:
    gc.collect()
    return len(list(Path("/proc/self/task").iterdir()))


def in_child(run: Callable[[], object]) -> int:
    """The exit status of a forked child that does it: 0, or 1 after an exception."""
    child = os.fork()
    if not child:
        status = 1
        try:
            run()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def test_sessions_of_a_process_share_a_pool(loaded: runtime.Loaded) -> None:
    before = native_threads()
    sessions = [runtime.Session(loaded, threads=n) for n in (3, 3, 3, 2)]
    assert native_threads() == before + 2 + 1
    sessions.pop(0).close()
    assert sessions[0].selftest() == 2 and native_threads() == before + 2 + 1
    sessions.clear()
    assert native_threads() == before


def test_close_waits_for_calls_inside(loaded: runtime.Loaded) -> None:
    threads, inside, over = Threads(Library(loaded), 2), threading.Event(), threading.Event()

    def call() -> None:
        with threads as pool:
            assert pool is not None
            inside.set()
            over.wait()

    caller, closer = threading.Thread(target=call), threading.Thread(target=threads.close)
    before = native_threads()
    caller.start()
    inside.wait()
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()
    with threads as pool:
        assert pool is None  # a call that begins now runs alone
    over.set()
    closer.join()
    caller.join()
    assert native_threads() == before - 1


def test_close_in_the_midst_of_an_own_call_does_not_wait(loaded: runtime.Loaded) -> None:
    """As a handler of a signal would."""
    threads = Threads(Library(loaded), 2)
    with threads as pool:
        threads.close()
        assert pool is not None and native_threads() > 1


def test_closing_while_others_call_changes_no_value(loaded: runtime.Loaded) -> None:
    (expected,) = runtime.Session(loaded).run_integer(*INPUTS)
    for _ in range(10):
        one, stop, wrong = runtime.Session(loaded, threads=2), threading.Event(), []

        def call(one: runtime.Session, stop: threading.Event, wrong: list[int]) -> None:
            while not stop.is_set():
                if not np.array_equal(one.run_integer(*INPUTS)[0], expected):
                    wrong.append(1)

        callers = [threading.Thread(target=call, args=(one, stop, wrong)) for _ in range(3)]
        for caller in callers:
            caller.start()
        time.sleep(0.01)
        one.close()
        one.close()
        time.sleep(0.01)
        stop.set()
        for caller in callers:
            caller.join()
        assert not wrong


def test_what_fails_to_open_leaves_no_thread(
    loaded: runtime.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = native_threads()

    def no_memory(size: int, alignment: int = 128) -> None:
        raise MemoryError

    with monkeypatch.context() as m:
        m.setattr(box, "aligned", no_memory)
        with pytest.raises(ArtifactError, match=r"small: out of memory, \d+ bytes of workspace"):
            runtime.Session(loaded, threads=2)
    assert native_threads() == before
    one = runtime.Session(loaded, threads=2)
    with monkeypatch.context() as m:  # and the same in a call that needs a box of its own
        m.setattr(box, "aligned", no_memory)
        one._boxes.clear()
        with pytest.raises(ArtifactError, match=r"small: out of memory, \d+ bytes of workspace"):
            one.run_integer(*INPUTS)
    assert one.selftest() == 2


def test_a_forked_child_calls_closes_and_loads(loaded: runtime.Loaded) -> None:
    one = runtime.Session(loaded, threads=2)
    (expected,) = one.run_integer(*INPUTS)

    def child() -> None:
        assert np.array_equal(one.run_integer(*INPUTS)[0], expected)
        own = runtime.Session(loaded, threads=2)
        assert own._threads is not None and one._threads is not None
        assert own._threads._pool is not one._threads._pool
        assert len(list(Path("/proc/self/task").iterdir())) == 2
        assert np.array_equal(own.run_integer(*INPUTS)[0], expected)
        one.close()
        own.close()
        assert np.array_equal(one.run_integer(*INPUTS)[0], expected)

    assert in_child(child) == 0
    assert np.array_equal(one.run_integer(*INPUTS)[0], expected)


def test_a_child_does_not_wait_for_its_parents_calls(loaded: runtime.Loaded) -> None:
    threads, inside, over = Threads(Library(loaded), 2), threading.Event(), threading.Event()

    def call() -> None:
        with threads:
            inside.set()
            over.wait()

    caller = threading.Thread(target=call)
    caller.start()
    inside.wait()
    assert in_child(threads.close) == 0
    over.set()
    caller.join()


def test_a_pool_outlives_the_session_whose_code_it_is(loaded: runtime.Loaded) -> None:
    first = runtime.Session(loaded, threads=2)
    second = runtime.Session(runtime.from_files(artifact("x86-64").files), threads=2)
    first.close()
    del first
    gc.collect()
    assert second.selftest() == 2
    assert isinstance(second._threads and second._threads._pool, Pool)
