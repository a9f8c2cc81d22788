"""Portable C on machines of other byte orders and widths: its self-test, under an emulator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qir.backends import build
from tests.random_graphs import batch

MACHINES = {
    "arm-linux-musleabihf": "qemu-arm",  # 32 bits, little endian
    "powerpc-linux-musleabihf": "qemu-ppc",  # 32 bits, big endian
    "s390x-linux-musl": "qemu-s390x",  # 64 bits, big endian
}


@pytest.fixture(scope="module", params=["all", "sequences"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = batch(range(120_000, 120_020), family=request.param)
    return build(graph, "c", "prog").save(tmp_path_factory.mktemp("c") / "prog.qir")


@pytest.mark.parametrize("triple", MACHINES)
def test_the_self_test_passes(triple: str, folder: Path, tmp_path: Path) -> None:
    emulator = MACHINES[triple]
    if shutil.which(emulator) is None:
        pytest.skip(f"{emulator}: not found; apt-get install qemu-user")
    program = str(tmp_path / "selftest")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", triple, "-fno-sanitize=all", "-static")
    sources = ("prog_test.c", "prog.c", "prog_border.c")
    command = (*zig, "-O3", "-fstrict-aliasing", *sources, "-o", program)
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [emulator, program, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and " 0 wrong" in done.stdout, done.stdout + done.stderr
