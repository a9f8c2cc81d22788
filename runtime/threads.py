"""Threads that split the work of a call: pools of C, shared by the sessions of a process."""

from __future__ import annotations

import ctypes
import os
import time
import weakref
from threading import get_ident
from types import TracebackType
from weakref import WeakValueDictionary

from .errors import ArtifactError
from .library import Library

POLL = 0.0005  # seconds between looks at the calls that close waits for


class Pool:
    """A pool, by the code of the library that started it; it stops when nothing refers to it.

    `address`: of its struct qir_threads. In a forked child it has no workers: calls run alone.
    """

    def __init__(self, library: Library, count: int) -> None:
        """Errors: ArtifactError when the system does not give so many threads."""
        start = library.function("pool_start", [ctypes.c_int], ctypes.c_void_p)
        stop = library.function("pool_stop", [ctypes.c_void_p], None)
        address = start(count)
        if not address:
            raise ArtifactError(
                f"artifact {library.name}: {count} threads cannot be started, fewer are needed"
            )
        self.address = int(address)
        weakref.finalize(self, stop, self.address).atexit = False

    @classmethod
    def of(cls, library: Library, count: int) -> Pool:
        """The pool of `count` threads of this process: the one that runs, else a new one."""
        key = (os.getpid(), count)
        pool = _RUNNING.get(key)
        return pool if pool is not None else _RUNNING.setdefault(key, cls(library, count))


_RUNNING: WeakValueDictionary[tuple[int, int], Pool] = WeakValueDictionary()
"""The pools of this process, by its number and theirs of threads."""


class Threads:
    """A session's use of a pool. A call enters; close lets no other in and waits for those inside.

    There is no lock: a fork could leave one shut.
    """

    def __init__(self, library: Library, count: int) -> None:
        self._pool: Pool | None = Pool.of(library, count)
        self._inside: list[int] = []  # the callers, by thread
        self._process = os.getpid()

    def __enter__(self) -> Pool | None:
        """The pool, alive as long as the caller refers to it; None after close."""
        self._inside.append(get_ident())
        return self._pool

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        self._inside.remove(get_ident())

    def close(self) -> None:
        """Calls run alone from now on; returns when no other thread is in one that does not."""
        self._pool = None
        while os.getpid() == self._process and any(i != get_ident() for i in self._inside.copy()):
            time.sleep(POLL)
