"""Reads the files of a folder: regular ones, of the size that is expected, none by a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

from .errors import ArtifactError
from .memory import aligned

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
WRITES = "qir compile MODEL -o FOLDER writes the folder of an artifact"
AT_ONCE = 1 << 30  # bytes; Linux reads no more than 2 GiB


def text_of(path: str | bytes | os.PathLike[str]) -> str:
    """A path as text. Errors: ArtifactError for what is no path."""
    try:
        text = os.fsdecode(os.fspath(path))
    except TypeError as e:
        raise ArtifactError(f"path: a {type(path).__name__} was given, a path is needed") from e
    if not text:
        raise ArtifactError("path: an empty text was given, a path is needed")
    return text


class Folder:
    """An open folder: files are read from this one, even if it is renamed meanwhile."""

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        """Errors: ArtifactError when there is none, or none that can be read."""
        self.path = text_of(path)
        try:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError as e:
            raise ArtifactError(
                f"{self.path}: no folder, that of an artifact is needed",
                f"of a model, qir compile {self.path} -o FOLDER makes one",
            ) from e
        except (OSError, ValueError) as e:
            raise self._unreadable(self.path, e) from e

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        os.close(self._handle)

    @property
    def was_replaced(self) -> bool:
        """Whether another folder lies at the path now."""
        try:
            return not os.path.samestat(Path(self.path).stat(), os.fstat(self._handle))
        except OSError:
            return False

    def read(self, name: str, size: int | None = None, most: int = 0) -> memoryview:
        """The content of a file of `size` bytes, or where that is None of at most `most`.

        Errors: ArtifactError for another size, for what is no regular file, or cannot be read.
        """
        where = f"{self.path}/{name}"
        try:
            self._check_kind(where, os.lstat(name, dir_fd=self._handle))
            handle = os.open(name, FLAGS, dir_fd=self._handle)
            try:
                status = os.fstat(handle)
                self._check_kind(where, status)
                if size is None and status.st_size > most:
                    raise ArtifactError(f"{where}: {status.st_size} bytes, at most {most} allowed")
                if size is not None and status.st_size != size:
                    raise ArtifactError(f"{where}: {status.st_size} bytes, {size} are needed")
                return _content(handle, status.st_size)
            finally:
                os.close(handle)
        except (OSError, ValueError, MemoryError) as e:
            raise self._unreadable(where, e) from e

    def _check_kind(self, where: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            kind = KINDS.get(stat.S_IFMT(status.st_mode), "no file")
            raise ArtifactError(f"{where}: {kind}, a regular file is needed")

    def _unreadable(self, where: str, e: Exception) -> ArtifactError:
        reason = e.strerror if isinstance(e, OSError) else str(e) or "out of memory"
        return ArtifactError(
            f"{where}: cannot be read ({reason}), the artifact is needed complete",
            WRITES if isinstance(e, FileNotFoundError) else None,
        )


def _content(handle: int, size: int) -> memoryview:
    """So many bytes, read-only, at an aligned address. Errors: ValueError when it is cut off."""
    content = aligned(size)
    view, at = content.data, 0
    while at < size:
        count = os.readv(handle, [view[at : at + AT_ONCE]])
        if not count:
            raise ValueError(f"it ended after {at} bytes")
        at += count
    content.setflags(write=False)
    return content.data
