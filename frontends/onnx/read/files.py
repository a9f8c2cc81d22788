"""Reads the files of a model: regular files only, whose size is checked first."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from qir.ir.errors import FrontendError

LARGEST = (1 << 31) - 1  # bytes that protobuf parses

KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder",
}  # fmt: skip


def read_regular(path: Path, requirement: str) -> bytes:
    """All bytes of a model's file. Errors: FrontendError."""
    subject = f"{path}:"
    size = _size(path, subject, requirement)
    if size > LARGEST:
        raise FrontendError(
            f"{subject} {size} bytes, at most {LARGEST} are needed",
            "save the weights as external data (onnx.save_model, save_as_external_data=True)",
        )
    return _read(path, 0, size, subject, requirement)


class ExternalData:
    """The files of external data, each of whose bytes is read into memory once."""

    def __init__(self) -> None:
        self._regions: dict[tuple[Path, int, int], bytes] = {}
        self._unread: dict[Path, int] = {}  # bytes of each file that no region has taken
        self.is_new = False  # whether the last region was read, not known already

    def read(self, folder: Path, entries: Mapping[str, str], size: int, where: str) -> bytes:
        """The `size` bytes that a tensor's entries (location, offset, length) name, in `folder`.

        Errors: FrontendError for a location outside the folder (an absolute one, by .. or by a
                link), what is no regular file, bytes that are not as many as the tensor's dims
                need, and regions that overlap beyond the size of their file.
        """
        path, offset, length = _location(folder, entries, size, where)
        subject = f"{where}: {path}"
        key = (path, offset, size)
        self.is_new = key not in self._regions
        if not self.is_new:
            return self._regions[key]
        total = _size(path, subject, "the file")
        if not 0 <= offset <= offset + length <= total:
            raise FrontendError(
                f"{where}: bytes {offset} to {offset + length} of {path.name}, at most {total} are"
                " needed"
            )
        if length != size:
            raise FrontendError(f"{where}: {length} bytes of data, {size} are needed")
        unread = self._unread.get(path, total) - size
        if unread < 0:
            raise FrontendError(
                f"{where}: tensors take more bytes than {path.name} has ({total}),"
                " regions that do not overlap are needed"
            )
        self._unread[path] = unread
        data = self._regions[key] = _read(path, offset, size, subject, "the file")
        return data


def _location(
    folder: Path, entries: Mapping[str, str], size: int, where: str
) -> tuple[Path, int, int]:
    """The file within `folder`, the offset and the length that the entries name."""
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        path = (folder / entries["location"]).resolve()
        is_inside = path.is_relative_to(folder.resolve())
    except (KeyError, ValueError, OSError, RuntimeError) as e:  # RuntimeError: links in a circle
        raise FrontendError(
            f"{where}: external data {dict(entries)}, a location, offset and length are needed"
        ) from e
    if not is_inside:
        raise FrontendError(f"{where}: data in {path}, a file in {folder} is needed")
    return path, offset, length


def _size(path: Path, subject: str, requirement: str) -> int:
    """The size of a regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError) as e:
        raise FrontendError(f"{subject} cannot be read ({e}), {requirement} is needed") from e
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise FrontendError(f"{subject} is {kind}, {requirement} is needed")
    return status.st_size


def _read(path: Path, offset: int, size: int, subject: str, requirement: str) -> bytes:
    """Bytes of what `_size` saw as a regular file; opened so that a pipe in its place ends here."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            file.seek(offset)
            data = file.read(size)
    except (OSError, ValueError) as e:
        raise FrontendError(f"{subject} cannot be read ({e}), {requirement} is needed") from e
    if len(data) != size:
        raise FrontendError(f"{subject} ends after {len(data)} of {size} bytes")
    return data
