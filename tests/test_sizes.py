"""Sizes that keep the tree readable: files, folders, and folders that need each other one way."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest

from tests.test_layers import SOURCE, DropTypeChecking, imports
from tests.tree import FOLDERS, ROOT

MOST_LINES = 400
MOST_FILES = 20  # of code, in one folder
AREAS = ("qir.passes", "qir.backends", "qir.frontends.onnx", "qir.frontends.torch", "qir")


def sources() -> list[Path]:
    """Every Python file of the repository: code, tests, docs."""
    folders = {*FOLDERS.values(), ROOT / "tests", ROOT / "docs"}
    return sorted({file for folder in folders for file in folder.rglob("*.py")})


def test_no_file_is_longer_than_the_limit() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in sources()
        if (lines := file.read_text().count("\n")) > MOST_LINES
    }
    assert not long


def test_no_folder_holds_more_files_than_the_limit() -> None:
    counts = Counter(file.parent.relative_to(ROOT) for file in sources())
    assert not {str(folder): n for folder, n in counts.items() if n > MOST_FILES}


def room(module: str, area: str) -> str:
    """The folder or single file right below `area` that a module belongs to."""
    return module.removeprefix(f"{area}.").split(".")[0]


@pytest.mark.parametrize("area", AREAS)
def test_folders_need_each_other_one_way(area: str) -> None:
    """Data flows one way: the folders of an area, taken as one each, form no cycle."""
    graph = nx.DiGraph()
    members = [name for name in SOURCE if name.startswith(f"{area}.")]
    for name in members:
        tree = DropTypeChecking().visit(ast.parse(SOURCE[name].read_text()))
        for target, _ in imports(name, tree):
            if target in members and room(target, area) != room(name, area):
                graph.add_edge(room(name, area), room(target, area))
    assert not [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]
