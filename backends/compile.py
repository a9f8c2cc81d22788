"""From the codes of a program's kernels to objects, in this process and, when there are many, beside it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qir.ir.errors import LowerError, listed
from qir.ir.target import Target

if TYPE_CHECKING:
    from qir.backends.select import Unit
    from qir.backends.tvm.worker import Built

ENOUGH = 24
"""Kernels from which a second process is faster, though it takes seconds to start."""

SECONDS = 600  # of the second process, at most


@dataclass(frozen=True)
class Compiled:
    """The objects, by file name; the kernels proven to hold no float; the compiler's version."""

    objects: Mapping[str, bytes]
    checked: tuple[str, ...]
    version: str


def machine(target: Target) -> dict[str, object]:
    """The target as TVM describes machines."""
    features = [f"+{f}" for f in target.features]
    return {"kind": "llvm", "mtriple": target.triple, "mcpu": target.cpu, "mattr": features}


def compile_kernels(codes: Mapping[str, Unit], target: Target) -> Compiled:
    """Objects that define every symbol. The same codes give the same bytes, on any number of cores.

    Errors: LowerError that names the kernels that cannot be built, or that hold floats.
    """
    from qir.backends.tvm.worker import build  # TVM takes seconds to load

    symbols = sorted(codes)
    if len(symbols) < ENOUGH:
        return _joined([build(machine(target), {s: codes[s] for s in symbols})])
    # Every other kernel: neighbours cost alike, so both halves take as long.
    halves = [{s: codes[s] for s in symbols[i::2]} for i in (0, 1)]
    beside = _start(target, halves[1])
    try:
        first = build(machine(target), halves[0])
        return _joined([first, _finish(beside)])
    finally:
        if beside.poll() is None:
            beside.kill()
        beside.communicate()


def _start(target: Target, codes: Mapping[str, Unit]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from qir.backends.tvm.worker import main; main()"]
    pipe = subprocess.PIPE
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert worker.stdin is not None
    try:
        worker.stdin.write(pickle.dumps((machine(target), dict(codes))))
        worker.stdin.flush()
    except BrokenPipeError:
        pass  # it died; what it said is read at the end
    return worker


def _finish(worker: subprocess.Popen[bytes]) -> Built:
    try:
        out, said = worker.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as e:
        raise LowerError(
            f"kernels: the compiler beside ran over {SECONDS} s, an end is needed"
        ) from e
    if worker.returncode != 0 or not out:
        lines = said.decode(errors="replace").strip().splitlines()[-5:]
        raise LowerError(
            listed(
                f"kernels: the compiler beside ended with {worker.returncode}, 0 is needed", lines
            )
        )
    built: Built = pickle.loads(out)
    return built


def _joined(parts: list[Built]) -> Compiled:
    faults = [fault for part in parts for fault in part.faults]
    if faults:
        raise LowerError(listed(f"kernels: {len(faults)} faults in their code", faults))
    every = [content for part in parts for content in part.objects]
    objects = {f"kernels{i}.o": content for i, content in enumerate(every)}
    return Compiled(objects, tuple(s for part in parts for s in part.checked), parts[0].version)
