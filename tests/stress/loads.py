"""Loads and drops: memory, file descriptors, threads and mappings stay where they were."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

from qir import runtime

WARM_UP = 50  # loads before which memory may grow
GROWTH, OF_A_LOAD = 4 << 20, 512  # bytes that the allocator may keep: in all, and for each load


def check(path: Path, count: int) -> str:
    """Sessions with two threads of their own, run once and dropped, one after the other."""
    before = _state()
    for i in range(count + WARM_UP):
        if i == WARM_UP:
            before = _state()
        assert runtime.load(path, threads=2).selftest() == 2
        if i % 100 == 99:
            gc.collect()
    return _compared(before, GROWTH)


def check_pools(path: Path, count: int) -> str:
    """Sessions of one artifact, made and dropped by four threads; half of them are closed first."""
    loaded = runtime.read(path)
    before = _state()

    def load(number: int) -> None:
        for i in range(number // 4):
            session = runtime.Session(loaded, threads=2 + i % 2)
            if i % 2:
                session.close()

    for number in (4 * WARM_UP, count):
        before = _state()
        loaders = [threading.Thread(target=load, args=(number,)) for _ in range(4)]
        for loader in loaders:
            loader.start()
        for loader in loaders:
            loader.join()
    return _compared(before, GROWTH + OF_A_LOAD * count)


def _state() -> dict[str, int]:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    maps = Path("/proc/self/maps").read_text()
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status["Threads"]),
        "libraries": maps.count("memfd:qir-library"),
        "bytes": int(status["VmRSS"].split()[0]) << 10,
    }


def _compared(before: dict[str, int], growth: int) -> str:
    after = _state()
    assert after["bytes"] - before["bytes"] < growth, (before, after)
    same = {k: after[k] - before[k] for k in ("files", "threads", "libraries")}
    assert not any(same.values()), (before, after)
    grown = (after["bytes"] - before["bytes"]) >> 10
    return f"{grown} KiB more, as many files, threads and libraries"
