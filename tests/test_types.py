"""mypy --strict on all of qir, laid out as links; plain `mypy -p qir` sees a third of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tree import FOLDERS, ROOT, link, modules, pyproject


def mypy(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    return subprocess.run([*command, *arguments], cwd=tree, capture_output=True, text=True)


NEWEST = pytest.param("3.14", marks=pytest.mark.full)


@pytest.mark.parametrize("version", ["3.11", NEWEST])  # the oldest we promise, torch's newest
def test_all_of_qir_type_checks(version: str, tmp_path: Path) -> None:
    tree = link(tmp_path / "tree")
    # Without namespaces: a folder of C templates is no package.
    options = ("--no-namespace-packages", "--cache-dir", str(ROOT / ".mypy_cache"))
    run = mypy(tree, *options, "--python-version", version, "-p", "qir")
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"in {len(modules())} source files" in run.stdout  # none is overlooked


def test_the_oldest_python_is_the_promised_one() -> None:
    project, ruff = pyproject()["project"], pyproject()["tool"]["ruff"]
    oldest = project["requires-python"].removeprefix(">=")
    assert oldest == pyproject()["tool"]["mypy"]["python_version"] == "3.11"
    assert ruff["target-version"] == "py" + oldest.replace(".", "")
    for file in ("Makefile", "README.md", ".ci/run"):
        assert oldest in (ROOT / file).read_text()


def test_the_newest_python_reads_every_file() -> None:
    options = ("--target-version", "py314", "--select", "E9,F", "--no-cache")
    command = [sys.executable, "-m", "ruff", "check", *options, str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_fault_in_a_mapped_folder_is_found(tmp_path: Path) -> None:
    """The check itself: a planted fault in each mapped folder, seen through the same links."""
    tree = link(tmp_path / "tree")
    mapped = [name.removeprefix("qir.") for name in FOLDERS if name != "qir"]
    for name in mapped:
        folder = tree / "qir" / name
        folder.unlink()
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "planted.py").write_text("from qir.ir.errors import SHOWN\n\nx: str = SHOWN\n")
    planted = [argument for name in mapped for argument in ("-m", f"qir.{name}.planted")]
    run = mypy(tree, "--cache-dir", str(tmp_path / "cache"), *planted)
    assert run.returncode == 1, run.stdout + run.stderr
    for name in mapped:
        assert f"qir/{name}/planted.py:3: error: Incompatible types in assignment" in run.stdout
