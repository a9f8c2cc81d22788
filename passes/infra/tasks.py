"""Independent tasks on any executor, with results on disk and independent of the executor."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from loky import ProcessPoolExecutor

from qir.ir.errors import DataError
from qir.ir.text.file import write_whole
from qir.ir.types import Array

T = TypeVar("T")
Result = Mapping[str, Array]
Tell = Callable[[str, int, int], None]
"""What is being done, how much is done, of how much."""

MAGIC = b"qir result 1\n"
SAFE_PATH = {"PYTHONSAFEPATH": "1"}  # of workers: a torch.py beside a model is not the one to run
PATIENCE = 3.0  # seconds of work done before processes start, which takes about as long
IDLE = 60.0  # seconds after which a worker without work ends, that of a killed caller too


def quiet(task: str, count: int, of: int) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class Store:
    """Results on disk, one file for each key; without a folder, nothing is stored.

    A file is written completely or not at all, and checked when it is read. `version`: of the code
    that computed the results; results of another version are ignored.
    """

    folder: Path | None = None
    version: str = ""

    def has(self, key: str) -> bool:
        return self.folder is not None and self._path(key).exists()

    def get(self, key: str) -> Result | None:
        """The result of this key, None when there is none.

        Errors: DataError for a damaged file.
        """
        if not self.has(key):
            return None
        path = self._path(key)
        content = path.read_bytes()
        body = content[len(MAGIC) + 32 :]
        if content != MAGIC + hashlib.sha256(body).digest() + body:
            raise DataError(
                f"{path}: its checksum is wrong, an undamaged file is needed",
                hint="delete the file to do this part again",
            )
        with np.load(io.BytesIO(body)) as z:
            return dict(z)

    def put(self, key: str, result: Result) -> None:
        if self.folder is None:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **result)  # type: ignore[arg-type]
        body = buffer.getvalue()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(key), MAGIC + hashlib.sha256(body).digest() + body)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(f"{self.version} {key}".encode()).hexdigest()[:32]
        return self.folder / f"{name}.npz"


@dataclass(frozen=True)
class Task:
    """`function(*arguments)`, which returns arrays by name.

    The key names everything the result depends on. Function and arguments can be pickled; the
    function is deterministic on one thread.
    """

    key: str
    function: Callable[..., Result]
    arguments: tuple[object, ...]


def run_tasks(
    what: str,
    tasks: Sequence[Task],
    executor: Executor | None = None,
    store: Store | None = None,
    tell: Tell = quiet,
) -> list[Result]:
    """The results of all tasks, in their order, whatever the executor and wherever it resumes.

    executor: a concurrent.futures.Executor (dask's too); by default a process pool
              over all cores, made only when there is something to do (Processes).
    store:    where finished tasks are kept, and looked up first.

    Each task runs on one torch thread, so that sums are added in one order on every executor.
    Errors: what a task raises; the results so far are kept.
    """
    cache = store or Store()
    results = [cache.get(task.key) for task in tasks]
    todo = [i for i, result in enumerate(results) if result is None]
    tell(what, len(tasks) - len(todo), len(tasks))
    if todo:
        with nullcontext(executor) if executor is not None else Processes() as pool:
            futures = {pool.submit(on_one_thread, t.function, *t.arguments): i
                       for i, t in ((i, tasks[i]) for i in todo)}  # fmt: skip
            for future in _finished(pool, futures):
                at = futures[future]
                results[at] = result = future.result()
                cache.put(tasks[at].key, result)
                tell(what, sum(r is not None for r in results), len(tasks))
    return [result for result in results if result is not None]


def _finished(pool: Executor, futures: Mapping[Future[Result], int]) -> Iterator[Future[Result]]:
    """The futures as they are done; those of other libraries in their order."""
    are_futures = all(isinstance(future, Future) for future in futures)
    try:
        yield from as_completed(futures) if are_futures else futures
    except BaseException:
        for future in futures:
            future.cancel()
        raise


class Processes(Executor):
    """A process for each core: the default executor.

    Tasks run in this process until they have taken `patience` seconds in all, so that small work
    starts no process; from then on side by side in processes. They are loky's: unlike
    multiprocessing's they do not import the caller's script once more, so it needs no guard around
    its main part.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience  # what is left of it
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._patience > 0:
            return self._run_here(fn, *args, **kwargs)
        if self._pool is None:
            # a worker with large results behind it is taken for one that leaks: no matter
            warnings.filterwarnings("ignore", "A worker was restarted", UserWarning, "loky")
            self._pool = ProcessPoolExecutor(cores(), timeout=IDLE, env=SAFE_PATH)
        with _safe_path():
            result: Future[T] = self._pool.submit(fn, *args, **kwargs)
        return result

    def _run_here(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        begin = time.monotonic()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as e:
            future.set_exception(e)
        self._patience -= time.monotonic() - begin
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait, kill_workers=cancel_futures)
            self._pool = None


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes started meanwhile do not search the current folder for modules: loky's tracker of
    resources takes no environment of its own.
    """
    variables = {name: value for name, value in SAFE_PATH.items() if name not in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_one_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """function(*arguments), with torch on one thread meanwhile."""
    with ONE_THREAD:
        return function(*arguments)


class OneThread:
    """Torch on one thread while any thread of this process is inside.

    The number holds for the whole process, so it is only set back when the last one has left: a
    task that ends must not change how the sums of another are added.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.set_num_threads(self._before)


ONE_THREAD = OneThread()
