"""Opens an artifact: everything is checked before any native code is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from . import format, schema
from .errors import ArtifactError, DataError, listed
from .files import Folder
from .memory import shared

READS = 5  # of a folder that others replace meanwhile


@dataclass(frozen=True)
class Loaded:
    """An artifact whose manifest and files are right.

    `files`: the bytes of each file by name; weights lie at an aligned address.
    """

    manifest: format.Manifest
    files: Mapping[str, format.Content]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def sha256(self) -> str:
        """Of the manifest, and with the hashes in it of every file."""
        return str(self.manifest["sha256"])


def read(path: str | os.PathLike[str], sha256: str | None = None) -> Loaded:
    """The artifact in the folder `path`; none of its code is run.

    `sha256`: what its manifest's hash must be.
    Errors: ArtifactError for anything missing, changed, or of another version; DataError for a
    `sha256` that is none.
    """
    if sha256 is not None and not (isinstance(sha256, str) and schema.is_hash(sha256.lower())):
        raise DataError(f"sha256: {format.show(sha256)}, 64 hexadecimal digits are needed")
    for _ in range(READS - 1):
        with Folder(path) as folder:
            try:
                return _read(folder, sha256)
            except ArtifactError:
                if not folder.was_replaced:
                    raise
    with Folder(path) as folder:
        return _read(folder, sha256)


def _read(folder: Folder, sha256: str | None) -> Loaded:
    content = folder.read(format.MANIFEST, most=format.MOST_MANIFEST_BYTES)
    manifest = _manifest(folder.path, content)
    if sha256 is not None and manifest["sha256"] != sha256.lower():
        raise ArtifactError(
            f"{folder.path}: its hash is {manifest['sha256']}, {sha256} is needed",
            "it is another artifact than the one whose hash was given",
        )
    files = {name: folder.read(name, entry["bytes"]) for name, entry in manifest["files"].items()}
    return _checked(folder.path, manifest, files)


def from_files(files: Mapping[str, format.Content]) -> Loaded:
    """The artifact of these files, manifest.json among them: not yet on disk."""
    if format.MANIFEST not in files:
        raise ArtifactError(
            f"artifact: no {format.MANIFEST} among {len(files)} files, one is needed"
        )
    manifest = _manifest("artifact", files[format.MANIFEST])
    if missing := [name for name in manifest["files"] if name not in files]:
        raise ArtifactError(listed("artifact: files are missing", missing))
    return _checked("artifact", manifest, {name: files[name] for name in manifest["files"]})


def _manifest(where: str, content: format.Content) -> format.Manifest:
    try:
        manifest = format.unsealed(content)
    except (ValueError, MemoryError) as e:
        problem = str(e) or "out of memory"
        raise ArtifactError(f"{where}: {format.MANIFEST} is unusable: {problem}") from e
    if faults := list(schema.faults(manifest)):
        raise ArtifactError(listed(f"{where}: {format.MANIFEST} describes no artifact", faults))
    return manifest


def _checked(where: str, manifest: format.Manifest, files: Mapping[str, format.Content]) -> Loaded:
    faults = []
    for name, entry in manifest["files"].items():
        content = files[name]
        if len(content) != entry["bytes"]:
            faults.append(f"{name}: {len(content)} bytes, {entry['bytes']} are needed")
        elif (actual := format.digest(content)) != entry["sha256"]:
            faults.append(
                f"{name}: hash {actual[:12]}, {entry['sha256'][:12]} is needed: it was changed"
            )
    if faults:
        raise ArtifactError(listed(f"{where}: files are damaged", faults))
    weights = manifest["weights"]
    try:
        in_place = shared(files[weights], manifest["files"][weights]["sha256"])
    except MemoryError as e:
        raise ArtifactError(
            f"{where}: out of memory, {manifest['weights_bytes']} bytes of weights are needed"
        ) from e
    return Loaded(manifest, {**files, weights: in_place})
