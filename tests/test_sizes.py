"""Sizes that keep the tree readable: of files, functions and folders, which need each other."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from tests.test_layers import SOURCE, DropTypeChecking, imports
from tests.tree import FOLDERS, ROOT

MOST_LINES = 400
MOST_CODE = 40  # lines of one function, without its docstring
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


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The name of every function, and its lines of code from the first statement to the last."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield node.name, lines


def test_no_function_is_longer_than_the_limit() -> None:
    long = {
        f"{file.relative_to(ROOT)} {name}": lines
        for file in sources()
        for name, lines in functions(ast.parse(file.read_text()))
        if lines > MOST_CODE
    }
    assert not long


def test_lines_of_code_leave_out_the_docstring() -> None:
    text = 'def f(x):\n    """One.\n\n    Two.\n    """\n    y = (\n        x)\n    return y\n'
    assert list(functions(ast.parse(text))) == [("f", 3)]
    assert list(functions(ast.parse('def g():\n    """Nothing."""\n'))) == [("g", 0)]


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
