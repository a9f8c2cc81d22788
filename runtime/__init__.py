"""Loads and runs artifacts; needs the standard library and NumPy only."""

from __future__ import annotations

import os

from .emulated import Emulated
from .errors import ArtifactError, DataError, MachineError
from .load import Loaded, from_files, read
from .port import Port
from .program import Program
from .session import Session

__all__ = [
    "ArtifactError",
    "DataError",
    "Emulated",
    "Loaded",
    "MachineError",
    "Port",
    "Program",
    "Session",
    "from_files",
    "load",
    "opened",
    "read",
]


def load(
    path: str | os.PathLike[str],
    threads: int = 1,
    emulate: bool = False,
    variant: str | None = None,
    sha256: str | None = None,
) -> Program:
    """The artifact in folder `path`, checked and ready to run.

    An artifact is a program: load only what you trust.
    threads:  threads that share the work of a call.
    emulate:  run it under an emulator of its target.
    variant:  the machine whose code runs, of an artifact for several (default: the best one here).
    sha256:   the expected hash, which detects another artifact in its place; the hashes inside the
              artifact detect damage.
    Errors: ArtifactError for an artifact that is damaged, incomplete, another one, or cannot run
    here; DataError for arguments out of range.
    """
    return opened(read(path, sha256), threads, emulate, variant)


def opened(
    loaded: Loaded, threads: int = 1, emulate: bool = False, variant: str | None = None
) -> Program:
    """An artifact that was read, ready to run.

    Errors: MachineError when it is for another machine, and not to be emulated.
    """
    if not emulate:
        return Session(loaded, threads, variant)
    if threads != 1:
        raise DataError(f"artifact {loaded.name}: {threads} threads, an emulated program has 1")
    return Emulated(loaded, variant=variant)
