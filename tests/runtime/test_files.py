"""What is read of a folder: regular files of the stated size, whatever lies there or changes."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from qir import runtime
from qir.runtime import ArtifactError, DataError, files, library
from tests.small_graphs import artifact, residual_network, stored_inputs

INPUTS = stored_inputs(residual_network())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return artifact().save(tmp_path / "small.qir")


def outside(file: Path) -> None:
    file.symlink_to("/etc/passwd")


def inside(file: Path) -> None:
    shutil.copy(file.parent / "small.h", file.parent / "target")
    file.symlink_to("target")


def bound(file: Path) -> None:
    before = Path.cwd()
    os.chdir(file.parent)
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(file.name)
    finally:
        os.chdir(before)


KINDS = {
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link": inside,
    "a link ": outside,
    "a link  ": lambda file: file.symlink_to("/dev/zero"),
    "a socket": bound,
}


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_read(saved: Path, kind: str, name: str) -> None:
    (saved / name).unlink()
    KINDS[kind](saved / name)
    with pytest.raises(ArtifactError, match=f"{name}: {kind.strip()}, a regular file is needed"):
        runtime.load(saved)


def test_sizes_are_those_of_the_files(saved: Path) -> None:
    size = (saved / "weights.bin").stat().st_size
    for changed in (0, size - 1, size + 1, 1 << 40):
        os.truncate(saved / "weights.bin", changed)  # the last one a sparse file
        with pytest.raises(ArtifactError, match=f"weights.bin: {changed} bytes, {size} are needed"):
            runtime.load(saved)
    os.truncate(saved / "manifest.json", 1 << 40)
    with pytest.raises(
        ArtifactError, match=r"manifest.json: 1099511627776 bytes, at most 33554432"
    ):
        runtime.load(saved)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("a\0b", r"a\\x00b: cannot be read \(embedded null byte\)"),
        ("x" * 300, r"cannot be read \(File name too long\)"),
        ("a\ud800b", r"a\\ud800b: cannot be read \(.*surrogates not allowed"),
        ("a**b", r"a\*\*b: cannot be read \(No such file or directory\)"),
        ("", "path: an empty text was given, a path is needed"),
        (
            "/dev/null",
            "^/dev/null: no folder, that of an artifact is needed\nhint: of a model, qir compile",
        ),
        (
            "none",
            r"^none: cannot be read \(No such .*\nhint: qir compile MODEL -o FOLDER writes the fo",
        ),
        ("a\n\x1b[2Jb", r"^a\\n\\x1b\[2Jb: cannot be read \(No such file"),
        (None, "path: a NoneType was given, a path is needed"),
        (3, "path: a int was given, a path is needed"),
    ],
)
def test_any_path_that_is_none_is_one_error(path: str, why: str) -> None:
    with pytest.raises(ArtifactError, match=why):
        runtime.load(path)


def test_a_folder_that_is_replaced_meanwhile_is_read_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are removed while they are read, as a save over it does."""
    read, other = files.Folder.read, saved.with_name("other.qir")
    shutil.copytree(saved, other)

    def replaced(folder: files.Folder, name: str, *sizes: int, **limits: int) -> memoryview:
        if name == "weights.bin" and other.exists():
            saved.rename(saved.with_name("old"))
            other.rename(saved)
            shutil.rmtree(saved.with_name("old"))
        return read(folder, name, *sizes, **limits)

    monkeypatch.setattr(files.Folder, "read", replaced)
    assert runtime.load(saved).selftest() == 2 and not other.exists()


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "readv", lambda *_: 0)
    with pytest.raises(
        ArtifactError, match=r"manifest.json: cannot be read \(it ended after 0 byt"
    ):
        runtime.load(saved)


def test_what_was_read_stays_as_it_was(saved: Path) -> None:
    session = runtime.load(saved)
    (expected,) = session.run_integer(*INPUTS)
    for name in ("weights.bin", "libsmall.so"):
        (saved / name).write_bytes(b"\xff" * (saved / name).stat().st_size)
        os.truncate(saved / name, 0)
    assert np.array_equal(session.run_integer(*INPUTS)[0], expected)


def test_equal_weights_are_in_memory_once(saved: Path) -> None:
    sessions = [runtime.load(saved) for _ in range(3)]
    addresses = {s.weights.ctypes.data for s in sessions}  # type: ignore[attr-defined]
    assert len(addresses) == 1 and addresses.pop() % 128 == 0
    assert not sessions[0].weights.flags.writeable  # type: ignore[attr-defined]


def test_the_hash_of_another_artifact_is_refused(saved: Path) -> None:
    right = json.loads((saved / "manifest.json").read_text())["sha256"]
    assert runtime.load(saved, sha256=right.upper()).sha256 == right
    wrong = "0" * 64
    with pytest.raises(ArtifactError, match=f"its hash is {right}, {wrong} is needed\nhint: it is"):
        runtime.load(saved, sha256=wrong)
    for none in ("", "x" * 64, right[:63], 7):
        with pytest.raises(DataError, match=r"sha256: .*, 64 hexadecimal digits are needed"):
            runtime.load(saved, sha256=none)  # type: ignore[arg-type]


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS, errno.EACCES])
def test_where_memory_cannot_be_a_library_a_file_is(
    saved: Path, refusal: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(library.os, "memfd_create", refuse)
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    session = runtime.load(saved)
    assert session.selftest() == 2 and sorted(tmp_path.iterdir()) == before
    del session
    gc.collect()
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(
        ArtifactError, match=r"small: its library cannot be loaded \(.*No such file"
    ):
        runtime.load(saved)


def test_a_library_that_memory_may_not_run_comes_from_a_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = library.ctypes.CDLL

    def refuse(name: str, mode: int) -> object:
        if name.startswith("/proc/self/fd"):
            raise OSError("failed to map segment from shared object")
        return opened(name, mode=mode)

    monkeypatch.setattr(library.ctypes, "CDLL", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    session = runtime.load(saved)
    assert session.selftest() == 2 and len(list(Path("/proc/self/fd").iterdir())) == before
