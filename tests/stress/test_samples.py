"""A sample of every long check."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tree import ROOT

SAMPLES = {
    "tampered": 150, "calls": 2000, "loads": 40, "pools": 80, "forks": 20, "saves": 10,
    "sequences": 64, "tampered-entries": 60,
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_of(name: str) -> None:
    command = [sys.executable, "-m", "tests.stress", name, str(SAMPLES[name])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{name} {SAMPLES[name]}: ")
