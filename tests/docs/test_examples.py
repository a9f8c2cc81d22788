"""Examples in the documentation run, and print what the page shows below them.

Of each page, ```python blocks run in one namespace and ```sh blocks in a shell, in the order of the
page and in one folder. A ```text block shows the output of the block above it: the same words, with
the numbers of another machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from qir.ir.op import OPS
from tests.tree import ROOT

BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [
    ROOT / "README.md",
    *sorted(f for f in (ROOT / "docs").rglob("*.md") if "third_party_pass" not in f.parts),
]


@dataclass(frozen=True)
class Block:
    """An example, moved down to its own line so that an error names it, and its output."""

    kind: str
    source: str
    output: str | None


def blocks(file: Path) -> list[Block]:
    page, result = file.read_text(), []
    matches = list(BLOCK.finditer(page))
    for i, match in enumerate(matches):
        if match[1] == "text":
            continue
        after = matches[i + 1] if i + 1 < len(matches) and matches[i + 1][1] == "text" else None
        source = "\n" * page.count("\n", 0, match.start(2)) + match[2]
        result.append(Block(match[1], source, after and after[2]))
    return result


FILES = [file for file in PAGES if blocks(file)]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that the examples of one page fill; the ops they declare are forgotten after."""
    module = ModuleType("page_of_examples")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    known = dict(OPS)
    yield module
    OPS.clear()
    OPS.update(known)


def shell(source: str) -> str:
    """The output of a shell block; tools of this Python come first, terminals have 100 columns."""
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    run = subprocess.run(
        ["bash", "-eu", "-c", source], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def show(file: Path, block: Block, output: str) -> None:
    """Write the output of a block into the page."""
    shown = "\n".join(line.rstrip() for line in output.splitlines())
    end = f"{block.source.lstrip()}```\n```text\n"
    before, after = file.read_text().split(end)
    rest = after[after.index("```\n") :]
    file.write_text(f"{before}{end}{shown}\n{rest}")


def words(text: str) -> list[list[str]]:
    """The words of each line, numbers as #; lines in any order, cut ones (…) as their count.

    Ops sorted by a measured number may come in another order, names may be cut at another letter.
    """
    number = re.sub(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?", "#", text)
    plain = re.sub(r"\b(µs|ms)\b", "time", re.sub(r"[─━]+", " ", number))
    lines = (["…"] if "…" in line else line.split() for line in plain.splitlines())
    return sorted(line for line in lines if line)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_examples_of(
    file: Path,
    page: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """With --update-golden, the output is written into the page."""
    monkeypatch.chdir(tmp_path)
    updates: bool = request.config.getoption("--update-golden")
    for block in blocks(file):
        out = io.StringIO()
        if block.kind == "sh":
            out.write(shell(block.source))
        else:
            with contextlib.redirect_stdout(out):
                exec(compile(block.source, str(file), "exec"), vars(page))
        if block.output is not None and updates:
            show(file, block, out.getvalue())
        elif block.output is not None:
            assert words(out.getvalue()) == words(block.output), out.getvalue()


def test_there_are_examples() -> None:
    names = {file.name for file in FILES}
    assert names >= {"tutorial.md", "text.md", "types.md", "add_an_op.md", "add_a_pass.md"}
    outputs = [b.output for file in FILES for b in blocks(file) if b.output is not None]
    assert len(outputs) >= 5


def test_output_of_other_numbers_passes_and_of_other_words_does_not() -> None:
    assert words("a 12.5 µs\n -3 of 1,000") == words(" 7 of 12\na   1.2 ms")
    assert words("a 12 b") != words("a 12 c")
