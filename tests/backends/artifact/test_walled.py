"""Whole programs touch no byte beyond the memory they ask for, and find slack where they read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qir.backends import build
from qir.backends.kernels import SLACK
from qir.backends.lowering.place import Place
from qir.backends.lowering.weights import WeightBlob
from tests.small_graphs import artifact, residual_network
from tests.tree import ROOT

TARGETS = ("cpu", "c")


def test_programs_stay_between_walls() -> None:
    command = [sys.executable, "-m", "tests.backends.artifact.walled", *TARGETS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr[-2000:]


def test_slack_follows_the_last_buffer_and_the_last_weight() -> None:
    """Kernels may read SLACK bytes after the last element of any input."""
    program = artifact().program
    assert max(b.offset + b.size_bytes for b in program.buffers) + SLACK <= program.workspace_bytes
    weights = WeightBlob(64)
    last = weights.add(b"x" * 100)
    assert len(weights.blob) >= last + 100 + SLACK


def test_rows_that_overlap_are_no_plane() -> None:
    """A broadcast has strides of 0 or less than a row: as a plane its pixels would overlap."""
    rows = np.lib.stride_tricks.as_strided(np.arange(20), (4, 3), (8 * 2, 8))
    assert np.shares_memory(rows[0], rows[1])
    assert Place("r", "int8", (4, 3), (2, 1)).plane() is None
    assert Place("r", "int8", (2, 4, 3), (12, 2, 1)).plane() is None
    assert Place("r", "int8", (4, 3), (3, 1)).plane() is not None
    assert Place("r", "int8", (4, 3), (5, 1)).plane() is not None


def test_a_program_in_c_is_clean_under_sanitizers(tmp_path: Path) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer over the portable program's own self-test."""
    home = build(residual_network(), "c").save(tmp_path / "small.qir")
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = ["small_test.c", "small.c", "small_border.c"]
    subprocess.run(["cc", *flags, *files, "-o", "selftest"], cwd=home, check=True)
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # it ends without freeing
    done = subprocess.run(
        ["./selftest", "."], cwd=home, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


ALLOCATOR = """
#include <errno.h>
#include <stddef.h>
int posix_memalign(void **p, size_t alignment, size_t size) {
    static int calls;
    static _Alignas(128) char memory[8][1 << 20];
    if (alignment > 128 || size > sizeof *memory || calls == LIMIT) return ENOMEM;
    *p = memory[calls++];
    return 0;
}
"""


@pytest.mark.parametrize("limit", range(5))
def test_a_self_test_without_memory_says_so(tmp_path: Path, limit: int) -> None:
    home = artifact().save(tmp_path / "small.qir")
    (home / "memory.c").write_text(ALLOCATOR.replace("LIMIT", str(limit)))
    files = ["small_test.c", "memory.c", "libsmall.a", "-lpthread", "-o", "selftest"]
    subprocess.run(["cc", "-O1", *files], cwd=home, check=True)
    done = subprocess.run(["./selftest", "."], cwd=home, capture_output=True, text=True)
    assert done.returncode == 2 and "bytes of memory are needed" in done.stderr
