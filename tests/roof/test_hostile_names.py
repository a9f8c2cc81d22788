"""A model whose names are meant to break out: of C, of pages, of terminals, of names of files."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import qir
from qir.cli import main
from qir.ir.errors import ArtifactError
from qir.report.rows import Margin
from tests.roof.conftest import model
from tests.roof.reports import report, row

NAMES = (
    "*/ int x = 1; /*",
    '"; exit(1); "',
    "</script><script>alert(1)</script>",
    "\x1b[2J\x1b]0;title\x07",
    "a\nerror: b\r\\\n`c`",
    "while",
    "名前\u202e",
    "x" * 300,
    "%s%n ??/ @NAME@ {0}",
)


def renamed(name: str) -> onnx.ModelProto:
    """The small model with this name for its graph, its input, its output and its nodes."""
    proto = model()
    graph = proto.graph
    graph.name = name
    ends = {"image": name, "scores": f"{name} out"}
    for value in (*graph.input, *graph.output):
        value.name = ends[value.name]
    for number, node in enumerate(graph.node):
        node.name = f"{name} {number}"
        for names in (node.input, node.output):
            for i, one in enumerate(names):
                names[i] = ends.get(one, one)
    return proto


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    net = qir.compile(renamed(name), calibration=x, target="c", name=name)
    home = net.save("net.qir")
    loaded = qir.load("net.qir")
    assert np.array_equal(loaded(x[:1]), net(x[:1]))
    np.save("x.npy", x[:1])
    assert main(["run", "net.qir", "--input", "x.npy"]) == 0
    assert main(["report", "net.qir"]) == 0
    assert main(["bench", "net.qir", "--seconds", "0"]) == 0
    shown = capsys.readouterr()
    texts = [shown.out, shown.err, str(net.report()), (home / "README.md").read_text()]
    assert not {c for text in texts for c in text if c != "\n" and not c.isprintable()}
    assert net.report().html().count("<script") == 2
    sources = [file.name for file in home.glob("*.c")]
    flags = ["-std=c11", "-trigraphs", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run(["cc", *flags, *sources], cwd=home, check=True)


def test_a_report_of_impossible_numbers_is_refused() -> None:
    with pytest.raises(ArtifactError, match="margin: 1 bits, from 2 to 128 are needed"):
        Margin("a", "sum", 0, 1, 1)
    with pytest.raises(ArtifactError, match=r"row a: 1e\+06 dB, at most 20000 are needed"):
        row("a", (), 1e6)
    one = report((row("a", (), 10.0),), "net")
    for change, why in (
        ({"macs": 1 << 63}, r"report.rows\[0\].macs: 9223372036854775808, at most"),
        ({"loc": "\ud800"}, r"report.rows\[0\].loc: '\\ud800', a text without lone surrogates"),
        ({"shape": [[]]}, r"report.rows\[0\].shape\[0\]: a list of 0, int is needed"),
    ):
        text = replace(one, rows=(replace(one.rows[0], **change),)).to_json()
        with pytest.raises(ArtifactError, match=why):
            type(one).from_json(text)
    with pytest.raises(ArtifactError, match=r"report: not JSON \(number NaN, finite ones"):
        type(one).from_json(one.to_json().replace("10.0", "NaN"))
    with pytest.raises(ArtifactError, match="report: nested too deep, the text of to_json"):
        type(one).from_json("[" * 100_000)
