"""Where each package of qir lies on disk: the one place in the tests that knows the mapping."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {  # longest name first: qir/ is searched for what the others do not hold
    "qir.frontends": ROOT / "frontends",
    "qir.passes": ROOT / "passes",
    "qir.backends": ROOT / "backends",
    "qir.runtime": ROOT / "runtime",
    "qir": ROOT / "qir",
}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules() -> dict[str, Path]:
    """Every module of qir and its file; a package stands for its `__init__.py`."""
    modules_by_name = {}
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            inner = file.relative_to(folder).with_suffix("").parts
            if inner[-1] == "__init__":
                inner = inner[:-1]
            modules_by_name[".".join((package, *inner))] = file
    return modules_by_name


def link(tree: Path) -> Path:
    """Make `tree` a folder in which qir lies as it does when installed, as links to the source."""
    top = tree / "qir"
    top.mkdir(parents=True)
    for child in FOLDERS["qir"].iterdir():
        if child.name != "__pycache__":
            (top / child.name).symlink_to(child)
    for package, folder in FOLDERS.items():
        if package != "qir":
            (top / package.removeprefix("qir.")).symlink_to(folder)
    return tree
