"""Saving: over nothing but an artifact, all or nothing, with nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from qir.backends.artifact import folder
from qir.backends.artifact.folder import PREFIX, check_free, write_folder
from qir.ir.errors import ArtifactError
from qir.runtime import format


def files(*names: str, content: bytes = b"x", **more: object) -> dict[str, bytes]:
    """An artifact of these files, as far as saving looks at one."""
    listed = {name: {"bytes": len(content), "sha256": format.digest(content)} for name in names}
    manifest = {"abi": 1, "format": format.FORMAT, "name": "net", "files": listed, **more}
    return {**dict.fromkeys(names, content), format.MANIFEST: format.sealed(manifest)}


def tree(home: Path) -> dict[str, str]:
    """Everything below a folder: links by what they say, files by their content."""
    return {
        str(p.relative_to(home)): f"-> {p.readlink()}" if p.is_symlink()
        else p.read_text() if p.is_file() else "other"
        for p in home.rglob("*")
    }  # fmt: skip


def link(path: Path) -> None:
    write_folder(path.with_name("v1"), files("golden.bin"))
    path.symlink_to("v1")


def foreign_file(path: Path) -> None:
    write_folder(path, files("golden.bin"))
    (path / "notes.txt").write_text("months of work")


def folder_of_a_listed_name(path: Path) -> None:
    write_folder(path, files("golden.bin"))
    (path / "golden.bin").unlink()
    (path / "golden.bin").mkdir()
    (path / "golden.bin" / "notes.txt").write_text("months of work")


def link_of_a_listed_name(path: Path) -> None:
    write_folder(path, files("golden.bin"))
    (path / "golden.bin").unlink()
    (path / "golden.bin").symlink_to("/etc/passwd")


def holding(name: str, content: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / name).write_text(content)

    return make


def read_only(path: Path) -> None:
    write_folder(path, files("golden.bin")).chmod(0o555)


def manifest_by_link(path: Path) -> None:
    write_folder(path.with_name("v1"), files("golden.bin"))
    path.mkdir()
    (path / "manifest.json").symlink_to("../v1/manifest.json")


def bound(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path.name)
    finally:
        os.chdir(before)


OBSTACLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (link, "is a link"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "is a link"),
    "link to itself": (lambda path: path.symlink_to(path.name), "is a link"),
    "file": (lambda path: path.write_text("x"), "is no folder"),
    "pipe": (os.mkfifo, "is no folder"),
    "socket": (bound, "is no folder"),
    "empty folder": (Path.mkdir, "exists and is no artifact"),
    "web app": (holding("manifest.json", '{"name": "my app"}'), "exists and is no artifact"),
    "no JSON": (holding("manifest.json", "{"), "exists and is no artifact"),
    "JSON of a list": (holding("manifest.json", '["qir artifact"]'), "exists and is no artifact"),
    "deep JSON": (holding("manifest.json", "[" * 100_000), "exists and is no artifact"),
    "other file": (holding("notes.txt", "months of work"), "exists and is no artifact"),
    "manifest by a link": (manifest_by_link, "exists and is no artifact"),
    "foreign file": (foreign_file, "holds notes.txt beside its artifact"),
    "folder in it": (folder_of_a_listed_name, "holds golden.bin beside its artifact"),
    "link in it": (link_of_a_listed_name, "holds golden.bin beside its artifact"),
    "read-only folder": (read_only, "is read-only"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_is_no_artifact_stays_as_it_is(tmp_path: Path, name: str) -> None:
    make, why = OBSTACLES[name]
    path = tmp_path / "net.qir"
    make(path)
    before = tree(tmp_path)
    for attempt in (lambda: write_folder(path, files("net.c")), lambda: check_free(path)):
        with pytest.raises(ArtifactError) as e:
            attempt()
        assert e.value.text == f"{path}: {why}, a free path or an artifact to replace is needed"
        assert tree(tmp_path) == before


def test_a_mount_point_is_not_replaced() -> None:
    with pytest.raises(ArtifactError, match="/proc: is a mount point, a free path"):
        write_folder("/proc", files("golden.bin"))
    with pytest.raises(ArtifactError, match="is a mount point, a free path"):
        write_folder("/", files("golden.bin"))


def test_an_artifact_of_any_version_is_replaced(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "deep" / "net.qir", files("golden.bin", "net.c"))
    (path / "net.c").unlink()  # damaged
    write_folder(path, files("libnet.so"))
    assert set(tree(tmp_path)) == {"deep", "deep/net.qir", "deep/net.qir/libnet.so",
                                   "deep/net.qir/manifest.json"}  # fmt: skip


def test_the_current_folder_and_links_above_it_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "real" / "net.qir", files("golden.bin"))
    (tmp_path / "by").symlink_to("real")
    assert (
        write_folder(tmp_path / "by" / "net.qir", files("net.c")) == tmp_path / "real" / "net.qir"
    )
    monkeypatch.chdir(tmp_path / "real" / "net.qir")
    for own in (".", "../net.qir", tmp_path / "by" / "net.qir"):
        with pytest.raises(ArtifactError, match="is the current folder, a free path"):
            write_folder(own, files("libnet.so"))
    monkeypatch.chdir(tmp_path / "real")
    write_folder("../real/net.qir/../net.qir", files("README.md"))
    assert sorted(p.name for p in (tmp_path / "real" / "net.qir").iterdir()) == [
        "README.md", "manifest.json"]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="is the current folder"):
        write_folder("real/..", files("golden.bin"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x" * 300, r"cannot be looked at \(File name too long\)"),
        ("a\0b", r"a\\x00b: cannot be looked at \(.*null byte"),
        ("a\ud800b", r"a\\ud800b: cannot be looked at \(.*surrogates not allowed"),
        (None, "path: a NoneType was given, a path is needed"),
        (7, "path: a int was given, a path is needed"),
        (b"a", "path: a bytes was given, a path is needed"),
    ],
)
def test_a_path_that_is_none_is_an_error_of_ours(
    tmp_path: Path, name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=why):
        write_folder(name, files("golden.bin"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a**b", "[a]", "a\nb", "a\x1b[2Jb", "x" * 255, "模", "-o", " "])
def test_any_other_name_serves(tmp_path: Path, name: str) -> None:
    for content in (b"1", b"2"):
        assert write_folder(tmp_path / name, files("golden.bin", content=content)).name == name
    assert (tmp_path / name / "golden.bin").read_bytes() == b"2" and len(
        list(tmp_path.iterdir())
    ) == 1


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o027])
def test_the_umask_holds(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = write_folder(tmp_path / "net.qir", files("golden.bin"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (path / "golden.bin").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("at", ["mkdir", "_write", "_put"])
def test_a_system_that_refuses_leaves_what_was_there(
    tmp_path: Path, number: int, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "old.qir", files("golden.bin"))
    before = tree(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path if at == "mkdir" else folder, at, refuse)
    why = rf"cannot be written \({os.strerror(number)}\), room and permission are needed"
    for path in (tmp_path / "old.qir", tmp_path / "golden.bin" / "b" / "new.qir"):
        with pytest.raises(ArtifactError, match=why):
            write_folder(path, files("net.c"))
        assert tree(tmp_path) == before


def test_a_file_that_comes_between_look_and_exchange_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_folder(tmp_path / "net.qir", files("golden.bin"))
    exchange, calls = folder._exchange, []

    def late(one: Path, other: Path) -> None:
        if not calls:
            (path / "notes.txt").write_text("months of work")
        calls.append(one)
        exchange(one, other)

    monkeypatch.setattr(folder, "_exchange", late)
    with pytest.raises(ArtifactError, match=r"holds notes.txt beside its artifact"):
        write_folder(path, files("net.c"))
    assert set(tree(tmp_path)) == {"net.qir", "net.qir/golden.bin", "net.qir/manifest.json",
                                   "net.qir/notes.txt"}  # fmt: skip


def test_without_an_exchange_renames_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        """One without renameat2."""

    monkeypatch.setattr(folder.ctypes, "CDLL", lambda *_, **__: Libc())
    path = write_folder(tmp_path / "net.qir", files("golden.bin"))
    write_folder(path, files("net.c"))
    assert set(tree(tmp_path)) == {"net.qir", "net.qir/net.c", "net.qir/manifest.json"}


STALE = [f"{PREFIX}{n:016x}" for n in range(9)]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    done, cut, short, empty, begun, mine, app, alive, longer = (tmp_path / n for n in STALE)
    for path in (done, cut, short, alive, longer):
        path.mkdir()
        for name, content in files("golden.bin", "net.c", content=b"1234").items():
            (path / name).write_bytes(content)
    (cut / "net.c").unlink()
    (short / "net.c").write_text("12")
    (longer / "net.c").write_text("months of work")
    empty.mkdir()
    begun.mkdir()
    (begun / format.MANIFEST).write_bytes(files("net.c")[format.MANIFEST][:20])
    mine.mkdir()
    (mine / "notes.txt").write_text("months of work")
    app.mkdir()
    (app / format.MANIFEST).write_text('{"name": "my app"}')
    (tmp_path / f"{PREFIX}old").mkdir()
    (tmp_path / f"{PREFIX}{15:016x}").symlink_to("net.qir")
    handle = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as the process that writes it does
        write_folder(tmp_path / "net.qir", files("golden.bin"))
    finally:
        os.close(handle)
    left = {"net.qir", f"{PREFIX}old", f"{PREFIX}{15:016x}", mine.name, app.name, alive.name}
    assert {p.name for p in tmp_path.iterdir()} == left | {longer.name}


def test_an_artifact_that_is_moved_away_meanwhile_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_folder(tmp_path / "a.qir", files("golden.bin"))
    scan = os.scandir

    def moving(place: Path) -> object:
        if place == path and path.exists():
            path.rename(tmp_path / "moved.qir")
        return scan(place)

    monkeypatch.setattr(os, "scandir", moving)
    write_folder(path, files("golden.bin", content=b"new"))
    assert (path / "golden.bin").read_bytes() == b"new"
    assert (tmp_path / "moved.qir" / "golden.bin").read_bytes() == b"x"


def test_saving_from_a_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    path = write_folder(tmp_path / "a.qir", files("golden.bin"))
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    write_folder(path, files("golden.bin", content=b"new"))
    assert (path / "golden.bin").read_bytes() == b"new"
    with pytest.raises(ArtifactError, match=r"^b.qir: cannot be looked at \(No such file or dir"):
        check_free("b.qir")
