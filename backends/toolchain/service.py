"""The process that builds kernels: a server that forks a child for each question.

LLVM can hang and crash, and TVM takes seconds to load: neither is let into the caller's process.
Every question has a connection of its own, on which its answer comes. So no answer can reach
another question, whatever interrupts the caller in between; and a closed connection ends the child.
"""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from qir.backends.toolchain.built import Built
from qir.backends.toolchain.interpreter import environment
from qir.ir.errors import LowerError, listed

SECONDS = 900  # of one answer, at most
SETTLING = 0.2  # seconds from the end of a process's connections to its own
LINES = 5  # of what a process wrote before it died


def start() -> None:
    """Start the server, which then loads TVM while the caller does other things."""
    _server()


def answers(questions: Sequence[bytes]) -> list[Built]:
    """The answer to each pickled (target, {symbol: code}); they are worked on side by side.

    Errors: LowerError when a process dies, or takes longer than SECONDS.
    """
    server, end = _server(), time.monotonic() + SECONDS
    with ExitStack() as connections:
        pending = [connections.enter_context(server.ask(question)) for question in questions]
        return [server.answer(connection, end) for connection in pending]


WORKER = "import sys; sys.modules['torch'] = None; from qir.backends.tvm.worker import main; main()"
"""TVM loads torch where there is one, which takes longer than TVM, for tensors it never sees."""


class _Server:
    """`qir.backends.tvm.worker` in a process of its own; it ends when `control` is closed."""

    def __init__(self) -> None:
        # One thread: it forks, and a fork takes no other thread along that may hold a lock.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (closed by close)
        self.control, child = socket.socketpair()
        with child:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                stdin=child.fileno(),
                stdout=self.log,
                stderr=self.log,
                env={**environment(), **single},
                cwd=os.sep,
                start_new_session=True,  # Ctrl-C is for the caller, who decides what it ends
            )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def ask(self, question: bytes) -> Connection:
        """Send a question; returns its connection without waiting for the server, which may be
        loading.
        """
        parent, child = Pipe()
        try:
            with tempfile.TemporaryFile() as file, child:
                file.write(question)
                file.flush()
                socket.send_fds(self.control, [b"?"], [file.fileno(), child.fileno()])
        except BrokenPipeError:
            pass  # the server died; the answer says so
        except BaseException:
            parent.close()
            raise
        return parent

    def answer(self, connection: Connection, end: float) -> Built:
        """The answer, if it comes before `end` by the monotonic clock."""
        try:
            if not connection.poll(max(end - time.monotonic(), 0)):
                fault = self._fault(f"ran over {SECONDS} s")
                self.close()  # it may hang itself; its children that answer others go on
                raise fault
            result: Built = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError) as e:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(SETTLING)  # if it was the server, the next question sees that
            raise self._fault("died") from e
        return result

    def _fault(self, problem: str) -> LowerError:
        head = f"kernels: the process that builds them {problem}, an answer is needed"
        return LowerError(listed(head, self._last_lines()))

    def _last_lines(self) -> list[str]:
        try:
            size = os.fstat(self.log.fileno()).st_size
            text = os.pread(self.log.fileno(), size, 0).decode(errors="replace")
        except ValueError:  # closed since, by another thread that saw that the server died
            return []
        return text.strip().splitlines()[-LINES:]

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


_LOCK = threading.RLock()
_RUNNING: list[_Server] = []
"""The server of this process, if there is one."""

_INHERITED: list[_Server] = []
"""Servers of a process that this one was forked from: not ours to ask, to end or to wait for."""


def _server() -> _Server:
    with _LOCK:
        if _RUNNING and not _RUNNING[0].lives:
            _RUNNING.pop().close()
        if not _RUNNING:
            _RUNNING.append(_Server())
        return _RUNNING[0]


def _forked() -> None:
    global _LOCK
    _LOCK = threading.RLock()  # another thread may have held it
    while _RUNNING:
        server = _RUNNING.pop()
        server.control.close()
        _INHERITED.append(server)


os.register_at_fork(after_in_child=_forked)


@atexit.register
def close() -> None:
    """End the server; the next question starts another one."""
    with _LOCK:
        while _RUNNING:
            _RUNNING.pop().close()
