"""Copies of the source, changed as a page says: word for word, by its diffs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tree import FOLDERS, ROOT

DIFF = re.compile(r"^```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w/.]+\.py)`")


def copied(folder: Path) -> Path:
    """`folder` as a place to import qir from, with files of its own."""
    top = folder / "qir"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(FOLDERS["qir"], top, ignore=skip)
    for package, source in FOLDERS.items():
        if package != "qir":
            shutil.copytree(source, top / package.removeprefix("qir."), ignore=skip)
    return folder


def place(copy: Path, file: str) -> Path:
    """A file of the repository in a copy."""
    inner = file.removeprefix("qir/")
    return copy / "qir" / inner


def diffs(page: str) -> list[tuple[str, str]]:
    """(file, diff) of each diff of a page; its file is the last one named before it."""
    return [(FILE.findall(page[: m.start()])[-1], m[1]) for m in DIFF.finditer(page)]


def apply(copy: Path, page: str) -> list[str]:
    """Change a copy as the diffs of a page say; the files that were changed."""
    for file, diff in diffs(page):
        target = place(copy, file)
        source = target.read_text()
        for hunk in diff.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            assert source.count(old) == 1, f"{file} holds {source.count(old)} times:\n{old}"
            source = source.replace(old, new)
        target.write_text(source)
    return sorted({file for file, _ in diffs(page)})


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, with qir from a copy."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=copy
    )


def section(file: str, title: str) -> str:
    """A section of a page in docs/, from its title to the next of its level."""
    page = (ROOT / "docs" / file).read_text()
    level = title.split(" ")[0]
    start = page.index(f"{title}\n")
    end = page.find(f"\n{level} ", start + 1)
    return page[start : end if end > 0 else len(page)]
