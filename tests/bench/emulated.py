"""An artifact's runner, unstripped, under QEMU's user mode, with a count for every instruction."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from qir.backends.artifact.artifact import Artifact
from qir.backends.c import entry, executables
from qir.backends.proofs.disassembly import Function, functions
from qir.backends.toolchain.link import RUNNER_FLAGS, toolchain
from qir.ir.target import PYTHON
from tests.bench.models import CACHE

SOURCE = Path(__file__).with_name("count.c")
PLUGIN_ABI = 1  # of QEMU 4.2 to 8.2


def _run(command: Sequence[str], folder: Path) -> None:
    arguments = [sys.executable if part == PYTHON else part for part in command]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {arguments[0]}: {done.stderr.strip()}")


@cache
def plugin() -> Path:
    """The compiled plugin."""
    CACHE.mkdir(exist_ok=True)
    library = CACHE / f"count.{os.getpid()}.so"
    command = ("cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror",
               f"-DVERSION={PLUGIN_ABI}", "-o", str(library), str(SOURCE))  # fmt: skip
    _run(command, CACHE)
    final = CACHE / "count.so"
    library.replace(final)
    return final


def linked(artifact: Artifact) -> bytes:
    """The runner once more, with its symbols: the same code as the artifact's own."""
    tools, name = toolchain(artifact.target), artifact.name
    files: Mapping[str, bytes] = {
        "runner.c": executables.runner([artifact.program]).encode(),
        "freestanding.c": executables.freestanding().encode(),
        f"{name}_weights.S": entry.weights(artifact.program).encode(),
    }
    cc = (*tools.compiler, *tools.flags)
    with tempfile.TemporaryDirectory(prefix="qir-") as temporary:
        folder = Path(temporary)
        for file in (f"{name}.h", f"lib{name}.a", "weights.bin"):
            (folder / file).write_bytes(artifact.files[file])
        for file, content in files.items():
            (folder / file).write_bytes(content)
            _run((*cc, *RUNNER_FLAGS, "-c", file, "-o", f"{file}.o"), folder)
        flags = ("-static", "-nostdlib", "-Wl,--build-id=none", "-Wl,-e,_start",
                 "-Wl,--gc-sections")  # fmt: skip
        objects = (*(f"{file}.o" for file in files), f"lib{name}.a")
        _run((*cc, *flags, "-o", "runner", *objects), folder)
        return (folder / "runner").read_bytes()


def counted(
    artifact: Artifact, cases: Sequence[Sequence[np.ndarray]]
) -> tuple[tuple[Function, ...], dict[int, int]]:
    """All functions of the runner, and how often each address ran (of Hexagon, each packet's)."""
    executable = linked(artifact)
    code = functions(executable, artifact.target)
    places = [i.address for f in code for i in f.instructions]
    data = struct.pack("<I", len(cases)) + b"".join(
        np.ascontiguousarray(a).tobytes() for case in cases for a in case
    )
    with tempfile.TemporaryDirectory(prefix="qir-") as temporary:
        runner, out = Path(temporary) / "runner", Path(temporary) / "counts"
        runner.write_bytes(executable)
        runner.chmod(0o755)
        options = f"{plugin()},low={min(places):x},high={max(places) + 1:x},out={out}"
        command = [*artifact.target.emulator, "-plugin", options, str(runner)]
        done = subprocess.run(command, input=data, capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"error: {command[0]} ended with {done.returncode}: {done.stderr!r}")
        lines = [line.split() for line in out.read_text().splitlines()]
    return code, {int(at, 16): int(count) for at, count in lines}
