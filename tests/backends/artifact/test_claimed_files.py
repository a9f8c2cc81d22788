"""Saving over a folder that only claims to be an artifact: no file in it is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qir.backends.artifact.artifact import build
from qir.backends.artifact.folder import check_free, write_folder
from qir.backends.artifact.names import files_of
from qir.ir.errors import ArtifactError
from qir.runtime import format
from tests.backends.artifact.test_folder import files, tree
from tests.small_graphs import residual_network

WORK = b"months of work"
TRUE = {"bytes": len(WORK), "sha256": format.digest(WORK)}


# files of the folder, entries of its manifest beside those of an artifact, what stands in the way
CLAIMS: dict[str, tuple[str, dict[str, object], str]] = {
    "a name of no artifact": (
        "notes.txt", {"files": {"notes.txt": TRUE}}, "holds notes.txt beside its artifact"
    ),
    "a file above": ("../notes.txt", {"files": {"../notes.txt": TRUE}}, ""),
    "a name of another program": (
        "other.c", {"files": {"other.c": TRUE}}, "holds other.c beside its artifact"
    ),
    "a program's name that is none": (
        "my notes.c", {"name": "my notes", "files": {"my notes.c": TRUE}},
        "holds my notes.c beside its artifact",
    ),
    "no program": ("net.c", {"name": None, "files": {"net.c": TRUE}}, "holds net.c beside its art"),
    "a list of files": ("net.c", {"files": ["net.c"]}, "holds net.c beside its artifact"),
    "another hash": (
        "net.c", {"files": {"net.c": {**TRUE, "sha256": "0" * 64}}},
        "holds net.c, not as its manifest states",
    ),
    "no hash": (
        "net.c", {"files": {"net.c": {"bytes": len(WORK)}}}, "holds net.c, not as its manifest st"
    ),
    "another size": (
        "net.c", {"files": {"net.c": {**TRUE, "bytes": 3}}}, "holds net.c, not as its manifest st"
    ),
    "a greater size": (
        "net.c", {"files": {"net.c": {**TRUE, "bytes": 99}}}, "holds net.c, not as its manifest st"
    ),
    "no size": (
        "net.c", {"files": {"net.c": {**TRUE, "bytes": "14"}}}, "holds net.c, not as its manifest"
    ),
    "no entry": ("net.c", {"files": {"net.c": None}}, "holds net.c, not as its manifest states"),
    "another format": (
        "net.c", {"format": "app", "files": {"net.c": TRUE}}, "exists and is no artifact"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_manifest_that_claims_a_file_deletes_none(tmp_path: Path, name: str) -> None:
    file, entries, why = CLAIMS[name]
    path = tmp_path / "net.qir"
    path.mkdir()
    (path / format.MANIFEST).write_bytes(files(**entries)[format.MANIFEST])
    (path / file).write_bytes(WORK)
    before = tree(tmp_path)
    if why:
        for attempt in (lambda: write_folder(path, files("net.h")), lambda: check_free(path)):
            with pytest.raises(ArtifactError, match=f"net.qir: {why}.*, a free path or") as e:
                attempt()
            assert len(e.value.lines) == 1 and tree(tmp_path) == before
    else:
        write_folder(path, files("net.h"))
    assert WORK in [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]


def test_a_manifest_that_was_changed_deletes_nothing(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "net.qir", files("net.c"))
    manifest = json.loads((path / format.MANIFEST).read_text())
    for change in ({"sha256": None}, {"name": "other"}):
        (path / format.MANIFEST).write_text(json.dumps({**manifest, **change}))
        before = tree(tmp_path)
        with pytest.raises(ArtifactError, match="exists and is no artifact, a free path"):
            write_folder(path, files("net.h"))
        assert tree(tmp_path) == before


def test_a_changed_file_is_kept(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "net.qir", files("README.md", "net.c"))
    (path / "README.md").write_text("my notes of this network")
    with pytest.raises(ArtifactError, match=r"holds README.md, not as its manifest states"):
        write_folder(path, files("net.c"))
    (path / "README.md").unlink()
    write_folder(path, files("net.c"))


@pytest.mark.parametrize("target", ["cpu", "c", "cortex-m4"])
def test_every_file_of_an_artifact_has_a_known_name(target: str) -> None:
    built = build(residual_network(), target, "net")
    assert set(built.files) - {format.MANIFEST} <= files_of("net")
