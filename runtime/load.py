"""Opens an artifact: everything is checked before any native code is touched."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import platform
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import format
from .errors import ArtifactError, MachineError, listed

Function = Callable[..., Any]


@dataclass(frozen=True)
class Loaded:
    """An artifact whose manifest, files and machine are right.

    `files`: the bytes of each file by name.
    """

    manifest: format.Manifest
    files: Mapping[str, bytes]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])


def read(path: str | os.PathLike[str]) -> Loaded:
    """The artifact in the folder `path`.

    Errors: ArtifactError for anything missing, changed, or of another version.
    """
    folder = Path(path)
    content = _file(folder, format.MANIFEST)
    manifest = _manifest(str(folder), content)
    files = {name: _file(folder, name, entry["bytes"]) for name, entry in manifest["files"].items()}
    return _checked(str(folder), manifest, files)


def from_files(files: Mapping[str, bytes]) -> Loaded:
    """The artifact of these files, manifest.json among them: not yet on disk."""
    if format.MANIFEST not in files:
        raise ArtifactError(
            f"artifact: no {format.MANIFEST} among {len(files)} files, one is needed"
        )
    manifest = _manifest("artifact", files[format.MANIFEST])
    if missing := [name for name in manifest["files"] if name not in files]:
        raise ArtifactError(listed("artifact: files are missing", missing))
    return _checked("artifact", manifest, {name: files[name] for name in manifest["files"]})


def _manifest(where: str, content: bytes) -> format.Manifest:
    try:
        manifest = format.unsealed(content)
    except ValueError as e:
        raise ArtifactError(f"{where}: {format.MANIFEST} is unusable: {e}") from e
    if found := list(format.faults(manifest)):
        raise ArtifactError(listed(f"{where}: {format.MANIFEST} describes no artifact", found))
    return manifest


def _file(folder: Path, name: str, size: int | None = None) -> bytes:
    """The whole content, at most one byte more than `size`."""
    limit = format.MOST_MANIFEST_BYTES if size is None else size
    try:
        with (folder / name).open("rb") as f:
            return f.read(limit + 1)
    except OSError as e:
        raise ArtifactError(
            f"{folder / name}: cannot be read ({e.strerror}), the whole artifact is needed"
        ) from e


def _checked(where: str, manifest: format.Manifest, files: Mapping[str, bytes]) -> Loaded:
    wrong = []
    for name, entry in manifest["files"].items():
        content = files[name]
        if len(content) != entry["bytes"]:
            wrong.append(f"{name}: {len(content)} bytes or more, {entry['bytes']} are needed")
        elif (found := format.digest(content)) != entry["sha256"]:
            wrong.append(
                f"{name}: hash {found[:12]}, {entry['sha256'][:12]} is needed: it was changed"
            )
    if len(files[manifest["weights"]]) != manifest["weights_bytes"]:
        wrong.append(f"{manifest['weights']}: {len(files[manifest['weights']])} bytes, "
                     f"{manifest['weights_bytes']} are needed")  # fmt: skip
    if wrong:
        raise ArtifactError(listed(f"{where}: files are damaged", wrong))
    return Loaded(manifest, files)


def cpu_flags() -> frozenset[str]:
    """The CPU features the system reports."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    heads = ("flags", "Features", "isa")
    return next(
        (frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith(heads)),
        frozenset(),
    )


def check_machine(loaded: Loaded) -> None:
    """Errors: MachineError that says what the artifact needs and this machine lacks."""
    target, where = loaded.manifest["target"], f"artifact {loaded.name}"
    instead = "compile for target cpu on this machine"
    if loaded.manifest["runner"] and (emulator := loaded.manifest["emulator"]):
        instead = f"qir.load(..., emulate=True) or qir run --emulate runs it under {emulator[0]}"
    here = (platform.machine(), sys.platform)
    if (target["machine"], target["system"]) != here:
        home = f" on {target['system']}" if target["system"] != "none" else ""
        raise MachineError(
            f"{where}: made for {target['machine']}{home}, this is {here[0]} on {here[1]}", instead
        )
    bits = ctypes.sizeof(ctypes.c_void_p) * 8
    if target["pointer_bits"] != bits:
        raise MachineError(
            f"{where}: made for {target['pointer_bits']}-bit pointers, this process has {bits}"
        )
    have = cpu_flags()
    if missing := [str(feature) for feature in target["needs"] if feature not in have]:
        raise MachineError(
            f"{where}: made for CPUs with {', '.join(missing)}, which this one lacks",
            "compile for target cpu on this machine, or for one that needs less than"
            f" {target['name']}",
        )


class Library:
    """The native code of an artifact. Holding a function of it keeps it loaded."""

    def __init__(self, loaded: Loaded) -> None:
        """Errors: ArtifactError when this machine cannot run it, or it is no library."""
        check_machine(loaded)
        self.name = loaded.name
        try:
            self._library = _dlopen(loaded.name, loaded.files[loaded.manifest["library"]])
        except OSError as e:
            raise ArtifactError(f"artifact {self.name}: its library cannot be loaded ({e})") from e

    def function(
        self, entry: str, arguments: Sequence[Any], result: Any = ctypes.c_int
    ) -> Function:
        """NAME_`entry`, with the C types of its arguments and result."""
        try:
            # Taken as an attribute it would make a cycle, and the library would stay for long.
            function = self._library[f"{self.name}_{entry}"]
        except AttributeError as e:
            raise ArtifactError(
                f"artifact {self.name}: its library has no {self.name}_{entry}"
            ) from e
        function.argtypes, function.restype = list(arguments), result
        return function


def _dlopen(name: str, content: bytes) -> ctypes.CDLL:
    """From memory where the system can, else from a file of our own: no one else can change it.

    The library goes when nothing refers to it any more. Until then its handle stays open: the
    loader knows libraries by path, and a number used again would find the old one.
    """
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory(prefix="qir-") as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    handle = os.memfd_create(name)
    try:
        with os.fdopen(handle, "wb", closefd=False) as f:
            f.write(content)
        library = ctypes.CDLL(f"/proc/self/fd/{handle}", mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except BaseException:
        os.close(handle)
        raise
    weakref.finalize(library, _unload, library._handle, handle).atexit = False
    return library


def _unload(library: int, handle: int) -> None:
    _ctypes.dlclose(library)
    os.close(handle)
