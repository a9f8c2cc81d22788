"""The pool of threads in C, alone: what it promises, and that no two threads race."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from qir.backends.c import entry
from qir.backends.c.header import header
from qir.backends.targets import find
from tests.small_graphs import artifact

CASES = Path(__file__).parent / "pool_cases.c"
NAMES = (
    "every_unit_is_done_once",
    "a_second_thread_does_a_piece",
    "units_near_the_largest_integer",
    "callers_share_a_pool",
    "forked_children_run_alone",
    "forks_during_calls",
    "idle_workers_sleep",
    "many_threads_on_one_core",
    "pools_come_and_go",
    "threads_that_cannot_be_had",
    "signals_leave_workers_alone",
)
RACED = NAMES[:4]  # those that a sanitizer can follow: it keeps no account of forks
SECONDS = 300


def compiled(folder: Path, *flags: str) -> Path:
    """The cases with the pool of a program named net."""
    program = replace(artifact().program, name="net")
    (folder / "net.h").write_text(header([program], find("x86-64"), "0"))
    (folder / "net_pool.c").write_text(entry.pool(program))
    shutil.copy(CASES, folder)
    strict = ("-Wall", "-Wextra", "-Werror")
    subprocess.run(["cc", "-std=c11", "-pedantic", *strict, *flags, "-c", "net_pool.c"],
                   cwd=folder, check=True)  # fmt: skip
    subprocess.run(["cc", "-std=gnu11", *strict, *flags, CASES.name, "net_pool.o", "-lpthread",
                    "-o", "cases"], cwd=folder, check=True)  # fmt: skip
    return folder / "cases"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("pool"), "-O2")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("pool"), "-O1", "-g", "-fsanitize=thread")


def outcome(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS)
    return done.stdout + (done.stderr if done.returncode else "")


def test_every_case_is_run(cases: Path) -> None:
    assert tuple(outcome(cases).split()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_pool(cases: Path, name: str) -> None:
    assert outcome(cases, name) == "right\n"


@pytest.mark.parametrize("name", RACED)
def test_the_pool_is_free_of_races(sanitized: Path, name: str) -> None:
    assert outcome(sanitized, name) == "right\n"
