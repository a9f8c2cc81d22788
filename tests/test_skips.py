"""In CI what is missing fails, but for what cannot be installed; a test that spins is ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips
from tests.tree import ROOT

TESTS = """
import time, pytest

def test_tool(): pytest.skip("qemu-ppc: not found; apt-get install qemu-user")
def test_cpu(): pytest.skip("this CPU lacks avx512vnni")
@pytest.mark.skipif(True, reason="llvm-objdump: not found")
def test_marked(): pass
@pytest.mark.xfail(strict=True)
def test_known(): assert False
"""
SPINS = "def test_spins():\n    while True: pass\n"


def run(folder: Path, text: str, ci: str | None, *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "test_some.py"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", os.devnull]
    variables = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")}
    variables |= {"PYTHONPATH": str(ROOT)} | ({} if ci is None else {"CI": ci})
    return subprocess.run([*command, *options, str(file)], cwd=folder, env=variables,
                          capture_output=True, text=True)  # fmt: skip


def test_in_ci_a_missing_tool_fails_and_missing_hardware_is_counted(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS, "true")
    assert "1 failed, 1 skipped, 1 xfailed, 1 error" in done.stdout
    assert "CI has to have what is missing: Skipped: qemu-ppc: not found" in done.stdout
    assert "1 tests skipped for want of instructions of another CPU" in done.stdout


@pytest.mark.parametrize("ci", [None, "", "false"])
def test_elsewhere_they_are_skipped(tmp_path: Path, ci: str | None) -> None:
    assert "3 skipped, 1 xfailed" in run(tmp_path, TESTS, ci).stdout


def test_a_test_that_spins_is_ended(tmp_path: Path) -> None:
    done = run(tmp_path, SPINS, None, "--timeout=1", "--timeout-method=thread")
    assert done.returncode != 0 and "Timeout" in done.stdout + done.stderr


def test_each_exception_is_the_reason_of_some_skip() -> None:
    sources = [f.read_text() for f in (ROOT / "tests").rglob("*.py") if f.name != "skips.py"]
    for head in skips.EXCEPTIONS:
        assert any(head in text for text in sources), head
