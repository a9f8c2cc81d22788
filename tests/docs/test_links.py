"""Links in the documentation lead to files and headings that exist."""

from __future__ import annotations

import re
import xml.dom.minidom
from pathlib import Path

import pytest

from tests.tree import ROOT

FOLDERS = ("backends", "docs", "frontends", "passes", "qir", "runtime", "tests")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]*)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {h.replace(" ", "-") for h in plain}


def broken(page: Path) -> list[str]:
    faults = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            faults.append(f"{link}: no such heading")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_tree_that_a_page_names_exist(page: Path) -> None:
    """Decisions may name files of their time, and NAME is the reader's own."""
    matches = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", page.read_text())
    missing = [path for path in matches if "NAME" not in path and not (ROOT / path).exists()]
    assert not missing or "decisions" in page.parts


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One two\n[x](a.md#one-two) [y](a.md#three) [z](b.md) `[q](c.md)`\n")
    assert broken(page) == ["a.md#three: no such heading", "b.md: no such file"]


def test_every_page_is_reached_from_the_index() -> None:
    seen, todo = set(), [ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = LINK.findall(CODE.sub("", page.read_text()))
        todo += [
            (page.parent / path).resolve()
            for link in links
            if "://" not in link and (path := link.partition("#")[0])
        ]
    pages = {p for p in PAGES if p.name != "README.md" and "decisions" not in p.parts}
    assert not {str(p.relative_to(ROOT)) for p in pages - seen}


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "pictures").glob("*.svg")), ids=str)
def test_pictures_are_small_and_well_formed(file: Path) -> None:
    assert xml.dom.minidom.parse(str(file)).documentElement.tagName == "svg"
    assert file.stat().st_size < 20_000
