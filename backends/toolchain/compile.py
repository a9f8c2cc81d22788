"""From the codes of kernels to objects, in processes of their own that stay for the next program.

LLVM can hang and crash, and TVM takes seconds to load: neither is let into the caller's process.
"""

from __future__ import annotations

import atexit
import os
import pickle
import selectors
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from qir.backends.toolchain.built import LENGTH, Built
from qir.ir.errors import LowerError, listed
from qir.ir.target import Target

if TYPE_CHECKING:
    from qir.backends.lowering.context import Unit

ENOUGH = 24
"""Kernels from which a second process is worth its start."""

SECONDS = 900  # of one answer, at most


@dataclass(frozen=True)
class Compiled:
    """The objects, by file name; the kernels proven to hold no float; the compiler's version.

    `texts`: the kernels as C functions, by symbol, in place of objects where the generator is "c".
    """

    objects: Mapping[str, bytes]
    checked: tuple[str, ...]
    version: str
    texts: Mapping[str, str]


def machine(target: Target) -> dict[str, object]:
    """The target as TVM describes machines."""
    if target.generator == "c":
        return {"kind": "c"}
    features = [f"+{f}" for f in target.features]
    described: dict[str, object] = {
        "kind": "llvm",
        "mtriple": target.triple,
        "mcpu": target.cpu,
        "mattr": features,
    }
    return described | dict(target.options)


def compile_kernels(codes: Mapping[str, Unit], target: Target) -> Compiled:
    """Objects that define every symbol. The same codes give the same bytes, on any number of cores.

    Errors: LowerError that names the kernels that cannot be built, or that hold floats.
    """
    symbols = sorted(codes)
    count = 1 if len(symbols) < ENOUGH else 2
    # Every other kernel: neighbours cost alike, so both halves take as long.
    shares = [{s: codes[s] for s in symbols[i::count]} for i in range(count)]
    with _LOCK:
        workers = [_worker(i) for i in range(count)]
        for worker, share in zip(workers, shares, strict=True):
            worker.ask((machine(target), share))
        return _joined([worker.answer() for worker in workers])


def warm() -> None:
    """Start a process and have it load TVM, while the caller does other things."""
    with _LOCK:
        _worker(0)


def _joined(parts: Sequence[Built]) -> Compiled:
    faults = [fault for part in parts for fault in part.faults]
    if faults:
        raise LowerError(listed(f"kernels: {len(faults)} faults in their code", faults))
    every = [content for part in parts for content in part.objects]
    objects = {f"kernels{i}.o": content for i, content in enumerate(every)}
    texts = {symbol: text for part in parts for symbol, text in part.texts}
    checked = tuple(s for part in parts for s in part.checked)
    return Compiled(objects, checked, parts[0].version, dict(sorted(texts.items())))


class _Worker:
    """A process that builds kernels; it ends when its standard input does."""

    def __init__(self) -> None:
        # One thread: it forks, and a fork takes no other thread along that may hold a lock.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from qir.backends.tvm.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **single},
        )
        self.owner = os.getpid()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None and self.owner == os.getpid()

    def ask(self, question: object) -> None:
        content = pickle.dumps(question)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(LENGTH.pack(len(content)) + content)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; the answer says so

    def answer(self) -> Built:
        """Errors: LowerError when the process died or is too slow; it is gone then."""
        pipe = self._process.stdout
        assert pipe is not None
        try:
            (size,) = LENGTH.unpack(_read(pipe, LENGTH.size))
            built: Built = pickle.loads(_read(pipe, size))
        except (TimeoutError, EOFError) as e:
            self._process.kill()
            self._process.wait()
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()[-5:]
            raise LowerError(
                listed(f"kernels: the process that builds them {e}, an answer is needed", lines)
            ) from e
        return built

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                pipe.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


def _read(pipe: IO[bytes], size: int) -> bytes:
    """Exactly `size` bytes. Errors: EOFError, TimeoutError."""
    handle, parts = pipe.fileno(), []
    with selectors.DefaultSelector() as ready:
        ready.register(handle, selectors.EVENT_READ)
        while size:
            if not ready.select(SECONDS):
                raise TimeoutError(f"ran over {SECONDS} s")
            part = os.read(handle, min(size, 1 << 20))
            if not part:
                raise EOFError("died")
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


_LOCK = threading.Lock()
_WORKERS: dict[int, _Worker] = {}


def _worker(number: int) -> _Worker:
    found = _WORKERS.get(number)
    if found is None or not found.lives:
        if found is not None:
            found.close()
        found = _WORKERS[number] = _Worker()
    return found


@atexit.register
def _close_all() -> None:
    while _WORKERS:
        _WORKERS.popitem()[1].close()
