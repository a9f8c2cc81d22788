"""Writes the folder of an artifact whole or not at all, and over nothing but an artifact."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qir.backends.artifact.names import files_of
from qir.ir.errors import ArtifactError, printable
from qir.runtime import format

EXCHANGE = 2  # RENAME_EXCHANGE of renameat2
HERE = -100  # AT_FDCWD
PREFIX = ".qir-saving-"  # of folders that are being written; short, whatever the artifact's name
SAVING = re.compile(re.escape(PREFIX) + "[0-9a-f]{16}")
TRIES = 100  # of one rename, while others save to the same path
BEGIN = b'{\n "abi": '  # of every manifest
SHOWN = 3  # names of what is in the way


def write_folder(path: str | os.PathLike[str], files: Mapping[str, format.Content]) -> Path:
    """Put `files`, manifest.json among them, into the folder `path` by one rename.

    An artifact that is there is replaced, anything else is left as it is. Killed at any moment it
    leaves the old artifact (or none) or the new one, and perhaps a folder `.qir-saving-...` beside
    it, which the next call removes. The umask holds.
    Errors: ArtifactError when the system refuses, or when something else is at `path`.
    """
    try:
        place = _place(path)
        check_free(place)
        with _folders(place.parent):
            _remove_stale(place.parent)
            with _temporary(place.parent) as temporary:
                for name in sorted(files, key=lambda name: name != format.MANIFEST):
                    _write(temporary / name, files[name])
                _sync(temporary)
                _put(temporary, place)
                _sync(place.parent)
    except (OSError, ValueError) as e:
        raise ArtifactError(
            f"{path}: cannot be written ({_why(e)}), room and permission are needed"
        ) from e
    return place


def check_free(path: str | os.PathLike[str]) -> None:
    """Errors: ArtifactError when something is at `path` that an artifact may not replace."""
    place = None
    try:
        place = _place(path)
        reason = _obstacle(place)
    except FileNotFoundError as e:
        is_gone = place is not None and not os.path.lexists(place)  # moved away meanwhile
        reason = None if is_gone else f"cannot be looked at ({_why(e)})"
    except (OSError, ValueError) as e:
        reason = f"cannot be looked at ({_why(e)})"
    if reason is not None:
        raise ArtifactError(
            f"{path}: {reason}, a free path or an artifact to replace is needed",
            "-o of qir compile, or the path of save, names another; or remove what is there",
        )


def _why(e: OSError | ValueError) -> object:
    return (e.strerror if isinstance(e, OSError) else None) or e


def _place(path: str | os.PathLike[str]) -> Path:
    """The absolute path; of its last part no link is followed."""
    if not isinstance(path, (str, os.PathLike)):
        raise ArtifactError(f"path: a {type(path).__name__} was given, a path is needed")
    absolute = Path(path)
    absolute = absolute if absolute.is_absolute() else Path.cwd() / absolute
    if absolute.name in ("", ".."):
        return Path(os.path.realpath(absolute))
    return Path(os.path.realpath(absolute.parent)) / absolute.name


def _obstacle(folder: Path, is_cut: bool = False) -> str | None:
    """Why the folder is no artifact that may be replaced; None when it is one, or nothing is there.

    An artifact is a folder with a manifest of ours, and no other files than those that an artifact
    can have and the manifest states, with this hash. One that `is_cut` was being written: files may
    be shorter.
    """
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(status.st_mode):
        return "is a link" if stat.S_ISLNK(status.st_mode) else "is no folder"
    if os.path.ismount(folder):
        return "is a mount point"
    if os.path.samestat(status, os.stat(".")):  # noqa: PTH116, Path.cwd() fails where it was removed
        return "is the current folder"
    if not status.st_mode & stat.S_IWUSR:
        return "is read-only"
    manifest = _manifest(folder)
    if manifest is None:
        return "exists and is no artifact"
    listed = _listed(manifest)
    foreign, damaged = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name == format.MANIFEST:
                continue
            if entry.name not in listed or not entry.is_file(follow_symlinks=False):
                foreign.append(entry.name)
            elif not _is_as_listed(folder / entry.name, listed[entry.name], is_cut):
                damaged.append(entry.name)
    if foreign:
        return f"holds {_names_text(foreign)} beside its artifact"
    if damaged:
        return f"holds {_names_text(damaged)}, not as its manifest states"
    return None


def _names_text(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name) for name in names[:SHOWN]) + more


def _manifest(folder: Path) -> format.Manifest | None:
    """The manifest in a folder, of any version of ours; None when it lacks or was changed."""
    file = folder / format.MANIFEST
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            return None
        with file.open("rb") as f:
            manifest = format.parsed(f.read(format.MOST_MANIFEST_BYTES + 1))
        format.check_seal(manifest)
    except (FileNotFoundError, ValueError):
        return None
    return manifest if manifest.get("format") == format.FORMAT else None


def _listed(manifest: format.Manifest) -> dict[str, Any]:
    """The entries of files in a manifest whose names an artifact of that program can have."""
    files, program = manifest.get("files"), manifest.get("name")
    if not isinstance(files, dict) or not isinstance(program, str) or not program.isidentifier():
        return {}
    names = files_of(program, _entries(manifest))
    return {name: entry for name, entry in files.items() if name in names}


def _entries(manifest: format.Manifest) -> list[str]:
    """The names of entries that can be some."""
    entries = manifest.get("entries")
    every = entries if isinstance(entries, list) else []
    names = [entry.get("name") for entry in every if isinstance(entry, dict)]
    return [name for name in names if isinstance(name, str) and name.isidentifier()]


def _is_as_listed(file: Path, entry: Any, is_cut: bool) -> bool:
    """Whether a file has the size and hash of its entry; where `is_cut`, a lesser size serves."""
    if not isinstance(entry, dict) or type(size := entry.get("bytes")) is not int:
        return False
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as f:
        length = os.fstat(handle).st_size
        if length != size:
            return is_cut and length < size
        return hashlib.file_digest(f, "sha256").hexdigest() == entry.get("sha256")


@contextmanager
def _folders(parent: Path) -> Iterator[None]:
    """The folder `parent`, made with those above it; on an error the new ones are removed."""
    missing = [p for p in (parent, *parent.parents) if not p.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


@contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    """A new folder, locked as long as this process lives; at the end it is removed if it is there.

    What is in it then: what was written, or the artifact that was replaced.
    """
    while True:
        folder = parent / f"{PREFIX}{secrets.token_hex(8)}"
        folder.mkdir()
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another process took it for one that a killed process left
        except OSError:
            folder.rmdir()
            raise
        if _lock(handle, folder):
            break
        os.close(handle)
    try:
        yield folder
    finally:
        with suppress(OSError):
            _remove(folder)
        os.close(handle)


def _lock(handle: int, folder: Path) -> bool:
    """Take the lock of an open folder; False when another process has it, or removed the folder.

    Where the file system has no locks nobody removes what others left.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    try:
        return os.path.samestat(os.fstat(handle), folder.lstat())
    except FileNotFoundError:
        return False


def _remove_stale(parent: Path) -> None:
    """Remove the folders of killed processes; those of living ones are locked."""
    with os.scandir(parent) as entries:
        names = [e.name for e in entries if SAVING.fullmatch(e.name)]
    for name in names:
        with suppress(OSError):
            handle = os.open(parent / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_ours(parent / name):
                    _remove(parent / name)
            finally:
                os.close(handle)


def _is_ours(folder: Path) -> bool:
    """Whether all in it was written here: an artifact's files, the last in part."""
    names = [file.name for file in folder.iterdir()]
    if names == [format.MANIFEST] and _manifest(folder) is None:
        with (folder / format.MANIFEST).open("rb") as f:
            return BEGIN.startswith(f.read(len(BEGIN)))
    return not names or _obstacle(folder, is_cut=True) is None


def _remove(folder: Path) -> None:
    """Remove the folder and its files, the manifest last, since it identifies them."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == format.MANIFEST):
        file.unlink()
    folder.rmdir()


def _write(file: Path, content: format.Content) -> None:
    with file.open("xb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())


def _sync(folder: Path) -> None:
    """Have the names in the folder on disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put(temporary: Path, path: Path) -> None:
    """Rename into place; an artifact there changes places with it at once where the system can."""
    for _ in range(TRIES):
        try:
            if not os.path.lexists(path):
                temporary.rename(path)
                return
            check_free(path)
            _exchange(temporary, path)
        except FileNotFoundError:
            continue  # another process took it away meanwhile
        except OSError as e:
            if e.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                continue  # another process put something there meanwhile
            raise
        if not _is_artifact(temporary):  # changed between the look and the exchange
            _exchange(temporary, path)
            continue
        return
    raise OSError(errno.EBUSY, "others save to it all the time")


def _is_artifact(folder: Path) -> bool:
    try:
        return _obstacle(folder) is None
    except (OSError, ValueError):
        return False


def _exchange(a: Path, b: Path) -> None:
    """Two folders change places: at once where the system can, else by three renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(libc, "renameat2", None)
    if exchange is not None:
        if exchange(HERE, os.fsencode(a), HERE, os.fsencode(b), EXCHANGE) == 0:
            return
        if (number := ctypes.get_errno()) not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(number, os.strerror(number))
    between = a.with_name(f"{a.name}-old")
    b.rename(between)
    try:
        a.rename(b)
    except OSError:
        between.rename(b)
        raise
    between.rename(a)
