"""The wheel holds every file of qir, and imports without the source tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.tree import FOLDERS, ROOT, modules

IMPORT_ALL = """
import importlib, pathlib, sys
import qir
here = pathlib.Path.cwd()
for name in sys.argv[1:]:
    file = importlib.import_module(name).__file__
    assert pathlib.Path(file).is_relative_to(here), f"{name} came from {file}"
"""


def test_the_wheel_is_complete_and_imports(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    for folder in FOLDERS.values():  # a copy: a build writes into the folder it builds
        shutil.copytree(folder, source / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    run = subprocess.run([*build, "-w", tmp_path, source], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr

    (wheel,) = tmp_path.glob("qir-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for package, folder in FOLDERS.items():
        shipped = site.joinpath(*package.split("."))
        for file in (source / folder.name).rglob("*"):
            if file.is_file():
                assert (shipped / file.relative_to(source / folder.name)).is_file(), (
                    f"not in the wheel: {file}"
                )

    packages = [name for name, file in modules().items() if file.name == "__init__.py"]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *packages], cwd=site, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
