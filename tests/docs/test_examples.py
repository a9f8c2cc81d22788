"""Every ```python block of docs/*.md runs: each file in one namespace, in a folder of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from qir.ir.op import OPS
from tests.tree import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILES = sorted(file for file in (ROOT / "docs").glob("*.md") if BLOCK.search(file.read_text()))


def blocks(file: Path) -> list[str]:
    """The examples of a page, each moved down to its own line, so that an error names it."""
    page = file.read_text()
    return ["\n" * page.count("\n", 0, b.start(1)) + b.group(1) for b in BLOCK.finditer(page)]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that the examples of one page fill; the ops they declare are forgotten after."""
    module = ModuleType("page_of_examples")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    known = dict(OPS)
    yield module
    OPS.clear()
    OPS.update(known)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_examples_of(
    file: Path, page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(file):
        exec(compile(block, str(file), "exec"), vars(page))


def test_there_are_examples() -> None:
    assert {file.name for file in FILES} >= {"text.md", "types.md", "add_an_op.md", "add_a_pass.md"}
