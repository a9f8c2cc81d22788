"""The native code of an artifact, loaded from the bytes that were checked."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import format
from .errors import ArtifactError
from .load import Loaded
from .machine import check_machine
from .schema import port_bytes

Function = Callable[..., Any]
MODE = os.RTLD_NOW | os.RTLD_LOCAL
THREADS = 2  # the version of struct qir_threads


class Library:
    """The native code of an artifact. Holding a function of it keeps it loaded."""

    def __init__(self, loaded: Loaded) -> None:
        """Errors: ArtifactError when this machine cannot run it, or it is no library."""
        check_machine(loaded.manifest)
        self.name = loaded.name
        if loaded.manifest["library"] is None:
            raise ArtifactError(f"artifact {self.name}: made without a library, one is needed")
        try:
            self._library = _dlopen(loaded.files[loaded.manifest["library"]])
        except (OSError, MemoryError) as e:
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

    def check_sizes(self, manifest: format.Manifest) -> None:
        """Compare the manifest's sizes with those that the code was compiled for.

        Errors: ArtifactError that names the first number that differs.
        """
        sizes = _sizes(manifest)
        numbers = [("sizes", len(sizes)), *sizes]
        compiled = self.function("sizes", [], ctypes.POINTER(ctypes.c_uint64))()
        for i, (name, size) in enumerate(numbers):
            if compiled[i] != size:
                raise ArtifactError(
                    f"artifact {self.name}: {name} {size} in its manifest, {compiled[i]} in its"
                    " code, equal ones are needed"
                )


def _sizes(manifest: format.Manifest) -> list[tuple[str, int]]:
    """What NAME_sizes holds after its own length, with names, if its code is for this manifest."""
    if manifest["abi"] == format.ABI:
        return [*_with_names(manifest, format.SIZES[:5]), *_entry_sizes(manifest)]
    shared = _with_names({**manifest, "entries": len(manifest["entries"])}, format.SHARED_SIZES)
    return [*shared, *(size for entry in manifest["entries"] for size in _entry_sizes(entry))]


def _entry_sizes(entry: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What is there of one program, or of one entry."""
    ports = (*entry["inputs"], *entry["outputs"])
    steps = (entry["steps"], *(v["steps"] for v in entry["variants"]))
    numbers = {
        "stored_bytes": entry["stored_bytes"],
        "steps": max(map(len, steps)),
        "inputs": len(entry["inputs"]),
        "outputs": len(entry["outputs"]),
    }
    sizes = [(f"bytes of {format.show(p['name'])}", port_bytes(p)) for p in ports]
    return [*_with_names(numbers, format.ENTRY_SIZES), *sizes]


def _with_names(numbers: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, THREADS if name == "version" else numbers[name]) for name in names]


def _dlopen(content: format.Content) -> ctypes.CDLL:
    """From memory where the system can, else from a file of our own: no one else can change it.

    The library goes when nothing refers to it any more. Errors: OSError.
    """
    try:
        return _from_memory(content)
    except (AttributeError, OSError):  # no memfd_create, or a policy against it or its use
        return _from_file(content)


def _from_memory(content: format.Content) -> ctypes.CDLL:
    """Its handle stays open until it is unloaded: the loader knows libraries by path, and a number
    used again would find the old one.
    """
    handle = os.memfd_create("qir-library", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as f:
            f.write(content)
        library = ctypes.CDLL(f"/proc/self/fd/{handle}", mode=MODE)
    except BaseException:
        os.close(handle)
        raise
    weakref.finalize(library, _unload, library._handle, handle).atexit = False
    return library


def _from_file(content: format.Content) -> ctypes.CDLL:
    """The file is removed before this returns; its mapping persists."""
    with tempfile.TemporaryDirectory(prefix="qir-") as folder:
        path = Path(folder) / "library"
        path.write_bytes(content)
        library = ctypes.CDLL(str(path), mode=MODE)
    weakref.finalize(library, _unload, library._handle, None).atexit = False
    return library


def _unload(library: int, handle: int | None) -> None:
    _ctypes.dlclose(library)
    if handle is not None:
        os.close(handle)
