"""Tasks over executors: the same results everywhere, kept on disk, taken up again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from qir.ir.errors import DataError
from qir.passes.infra.tasks import Processes, Store, Task, on_one_thread, run_tasks
from qir.passes.rounding.adaround import AdaRound, AdaRoundBlocks
from qir.passes.rounding.column_methods import Gptq
from tests.passes.rounding.rounding_net import net, samples, simulated
from tests.tree import ROOT

# Kills itself, as kill -9 does, when the first of the layers is done.
SCRIPT = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from qir.passes.rounding.adaround import AdaRound
from qir.passes.infra.tasks import Store
from tests.passes.rounding.rounding_net import net, samples, simulated
def tell(what, done, of):
    if what == "adaround" and done:
        os.kill(os.getpid(), signal.SIGKILL)
one = replace(AdaRound(steps=40), store=Store(Path(sys.argv[1])), tell=tell)
simulated(net(), samples(32), one)
"""


def sum_of_squares(count: int, seed: int) -> Mapping[str, np.ndarray]:
    """A sum whose last bits depend on how many threads add."""
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return {"sum": (x.reshape(100, -1) @ x.reshape(100, -1).T).numpy()}


def failing() -> Mapping[str, np.ndarray]:
    raise DataError("task: fails")


TASKS = [Task(f"squares {i}", sum_of_squares, (100_000, i)) for i in range(6)]


def processes() -> Executor:
    """All tasks in processes, the small ones too."""
    return Processes(0)


@contextmanager
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@contextmanager
def dask() -> Iterator[Executor]:
    """Two worker processes on this machine, as on others."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as pool,
    ):
        yield pool


@pytest.mark.parametrize(
    "executor", [threads, Processes, processes, pytest.param(dask, marks=pytest.mark.full)]
)
def test_every_executor_gives_the_same_bits(executor: object) -> None:
    graph, sample = net(), samples(32)
    ways = AdaRound(steps=40), AdaRoundBlocks(steps=4)
    here = simulated(graph, sample, *ways)
    sums = [on_one_thread(task.function, *task.arguments)["sum"] for task in TASKS]
    with executor() as pool:  # type: ignore[operator]
        there = simulated(graph, sample, *(one.on(graph, (sample,), pool) for one in ways))
        found = run_tasks("squares", TASKS, pool)
    assert there == here
    for a, b in zip(sums, found, strict=True):
        np.testing.assert_array_equal(a, b["sum"])


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    store, told = Store(tmp_path), list[tuple[str, int, int]]()
    first = run_tasks("squares", TASKS[:4], ThreadPoolExecutor(1), store)
    again = run_tasks("squares", TASKS, ThreadPoolExecutor(1), store, lambda *t: told.append(t))
    assert told == [("squares", 4, 6), ("squares", 5, 6), ("squares", 6, 6)]
    for a, b in zip(first, again, strict=False):
        np.testing.assert_array_equal(a["sum"], b["sum"])


def test_results_before_a_failure_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tasks = [TASKS[0], Task("bad", failing, ()), TASKS[1]]
    with pytest.raises(DataError, match="task: fails"):
        run_tasks("squares", tasks, ThreadPoolExecutor(1), store)
    assert store.get("squares 0") is not None
    assert store.get("bad") is None


def test_a_damaged_result_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("key", {"x": np.arange(3)})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="its checksum is wrong, an undamaged file is needed"):
        store.get("key")


def test_threads_are_given_back_when_the_last_task_leaves() -> None:
    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        run_tasks("squares", TASKS, pool)
    assert torch.get_num_threads() == before


def test_killed_work_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    mtimes = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(mtimes) == 1, "one layer of four"
    resumed = simulated(net(), samples(32), AdaRound(steps=40, store=Store(tmp_path)))
    assert {file: file.stat().st_mtime_ns for file in mtimes} == mtimes
    assert len(list(tmp_path.iterdir())) == 4
    assert resumed == simulated(net(), samples(32), AdaRound(steps=40))


class Idle(Executor):
    """One that there must be nothing to do for."""

    def submit(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("a task was given")


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    """Not even what the layers read, up to the first one that is still to be rounded: from there
    on the floats are the same as when every layer was walked to.
    """
    store = Store(tmp_path)
    first = simulated(net(), samples(32), Gptq(store=store))
    assert simulated(net(), samples(32), Gptq(store=store, executor=Idle())) == first
    *_, last = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    last.unlink()
    with pytest.raises(AssertionError, match="a task was given"):
        simulated(net(), samples(32), Gptq(store=store, executor=Idle()))
    assert simulated(net(), samples(32), Gptq(store=store)) == first


def test_processes_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    for name in ("torch", "numpy", "loky", "multiprocessing", "tempfile"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.ran', 'w').close()")
    script = (
        "import sys; sys.path = [p for p in sys.path if p]; import math, os, torch, loky\n"
        "from qir.passes.infra.tasks import Processes; os.chdir(sys.argv[1])\n"
        "with Processes(0) as pool: print(pool.submit(math.sqrt, 4.0).result())"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert run.stdout == "2.0\n", run.stderr
    assert not list(tmp_path.glob("*.ran"))
