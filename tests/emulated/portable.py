"""Portable C on machines of other byte orders and widths: its self-test, under an emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MACHINES = {
    "arm-linux-musleabihf": "qemu-arm",  # 32 bits, little endian
    "powerpc-linux-musleabihf": "qemu-ppc",  # 32 bits, big endian
    "s390x-linux-musl": "qemu-s390x",  # 64 bits, big endian
}
"""Machines by zig's name of them, and their emulators."""


def self_test(folder: Path, name: str, triple: str, level: str = "-O3") -> str:
    """What is wrong with the artifact in `folder` when its C runs on this machine; "" for nothing.

    `level`: how far the compiler optimizes.
    """
    program = folder / f"selftest.{triple}"
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", triple, "-static")
    plain = ("-fno-sanitize=all", "-fstrict-aliasing")
    sources = [f"{name}{part}.c" for part in ("_test", "", "_border")]
    command = (*zig, level, *plain, *sources, "-o", str(program))
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        return built.stderr
    done = subprocess.run(
        [MACHINES[triple], str(program), str(folder)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 and " 0 wrong" in done.stdout else done.stdout + done.stderr
