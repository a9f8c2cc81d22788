"""Writes a folder whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qir.ir.errors import ArtifactError
from qir.runtime.format import MANIFEST

EXCHANGE = 2  # RENAME_EXCHANGE of renameat2
HERE = -100  # AT_FDCWD


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    """Put `files` into the folder `path`: first beside it, then in its place by one rename.

    Killed at any moment it leaves the old folder (or none) or the new one, and perhaps a folder
    `.NAME.saving-...` beside it, which the next call removes.
    Errors: ArtifactError when the system refuses, or when `path` is there and is no artifact.
    """
    path = Path.cwd() / path
    if path.exists() and not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path}: exists and is no artifact, a free path or an artifact to replace is needed"
        )
    prefix = f".{path.name}.saving-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent, prefix)
        temporary = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=path.parent))
    except OSError as e:
        raise ArtifactError(
            f"{path}: cannot be written ({e.strerror}), room and permission are needed"
        ) from e
    try:
        for name, content in files.items():
            _write(temporary / name, content)
        temporary.chmod(0o755)
        _sync(temporary)
        _put(temporary, path)
        _sync(path.parent)
    except OSError as e:
        raise ArtifactError(
            f"{path}: cannot be written ({e.strerror}), room and permission are needed"
        ) from e
    finally:
        shutil.rmtree(
            temporary, ignore_errors=True
        )  # what is left there: nothing, or the old artifact
    return path


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(temporary: Path, path: Path) -> None:
    """Rename into place; an artifact there changes places with it at once where the system can."""
    if not path.exists():
        temporary.rename(path)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(libc, "renameat2", None)
    if (
        exchange is not None
        and exchange(HERE, os.fsencode(temporary), HERE, os.fsencode(path), EXCHANGE) == 0
    ):
        return
    old = temporary.with_name(temporary.name + "-old")
    path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(parent: Path, prefix: str) -> None:
    """Folders that a killed process left; those of living ones stay."""
    for found in parent.glob(f"{prefix}*"):
        owner = found.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and not _lives(int(owner)):
            shutil.rmtree(found, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
