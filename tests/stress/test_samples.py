"""A sample of every long check, several in a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tree import ROOT

SAMPLES = [
    "calls 2000 loads 40 pools 80 tampered 150",
    "sequences 32 tampered-entries 30",
    "forks 20 saves 10",
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_of(sample: str) -> None:
    words = sample.split()
    command = [sys.executable, "-m", "tests.stress", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [line.split(":")[0] for line in done.stdout.splitlines()]
    asked = zip(words[::2], words[1::2], strict=True)
    assert results == [f"{name} {count}" for name, count in asked]
