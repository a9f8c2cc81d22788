"""Imports in child processes with limits of time and memory: a hang or crash is an outcome."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from qir.ir.verify import verify

LIMIT_S = 60  # one import
LIMIT_BYTES = 2 << 30  # of new memory, for the whole child

OUTCOMES = ("graph", "refused", "no file")  # what may happen; every other outcome is a failure
Work = Callable[[int], str]


@dataclass(frozen=True)
class Outcome:
    """What one import came to, the seconds it took, and the most new memory of its child so far."""

    index: int
    text: str
    seconds: float
    bytes: int

    @property
    def failed(self) -> bool:
        return self.text not in OUTCOMES


def imported(model: bytes | Path) -> str:
    """'graph', 'refused', or the foreign exception."""
    try:
        verify(import_onnx(model))
        return "graph"
    except FrontendError as e:
        return str(e) if "MemoryError" in str(e) else "refused"
    except BaseException as e:
        return f"{type(e).__name__}: {e}"


def outcomes(
    count: int, work: Work, each: int, seconds: float = LIMIT_S, limit: int = LIMIT_BYTES
) -> Iterator[Outcome]:
    """work(0), work(1), ... in children of `each` imports; a child that ends early is replaced."""
    done = 0
    while done < count:
        for outcome in _child(done, min(done + each, count), work, seconds, limit):
            yield outcome
            done = outcome.index + 1


def _child(first: int, last: int, work: Work, seconds: float, limit: int) -> Iterator[Outcome]:
    """The outcomes of one child, up to the one that it does not survive."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        try:
            _work(first, last, work, writer, limit)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as answers:
            yield from _answers(first, last, answers.fileno(), pid, seconds)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answers(first: int, last: int, reader: int, pid: int, seconds: float) -> Iterator[Outcome]:
    for index in range(first, last):
        begin = time.monotonic()
        if not select.select([reader], [], [], seconds)[0]:
            yield Outcome(index, f"over {seconds:.0f} s", seconds, 0)
            return
        answer = os.read(reader, 1 << 16)
        if not answer:
            yield Outcome(index, "the process died", time.monotonic() - begin, 0)
            return
        yield Outcome(index, *pickle.loads(answer))
        os.kill(pid, signal.SIGUSR1)


def _work(first: int, last: int, work: Work, writer: int, limit: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    ceiling = pages * resource.getpagesize() + limit
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(first, last):
        begin = time.monotonic()
        text = work(index)[:500]
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = pickle.dumps((text, time.monotonic() - begin, (most - before) << 10))
        os.write(writer, answer)
        signal.sigwait([signal.SIGUSR1])  # one answer at a time
