"""qir compile-lm: all options at once, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import qir
from qir.cli import main
from qir.cli.syntax import FAILED
from qir.ir.interpret import dequantize_outputs, interpret
from qir.ir.ops import UnpackRows
from qir.ir.states import StateMemory
from qir.ir.text.file import save_graph
from qir.language_net import LanguageNet
from tests.float_decoders import float_graph, random_decoder

ROOM, CHUNK, VOCABULARY = 16, 4, 40
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of five layers with heads of 32, and token ids."""
    folder = tmp_path_factory.mktemp("lm")
    decoder = random_decoder(heads=1, kv_heads=1, size=32, layers=5)
    save_graph(float_graph(decoder, 1, ROOM), folder / "net.qir")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (8, ROOM))
    np.save(folder / "ids.npy", ids)
    np.savez(folder / "two.npz", ids=ids, mask=ids)
    np.save(folder / "reals.npy", ids.astype(np.float32))
    (folder / "empty").mkdir()
    (folder / "bad.gguf").write_bytes(b"GGUF" + bytes(20))
    (folder / "net.pt").write_bytes(b"PK")
    return folder


def test_all_at_once(files: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    line = "compile-lm net.qir --calibration ids.npy --max-tokens 16 --prefill 4 -o out.qir"
    options = "--outliers smoothquant --kv bfp4 --concurrency 2 --skip 0.1"
    assert main([*line.split(), *options.split()]) == 0
    shown = capsys.readouterr().out
    for what in (
        r"smooth-quant: \d+ changes",
        r"1 of 10 sub-layers are left out: \w+",
        r"layers side by side: \d\+\d",
        r"keys and values: bfp4, bfp4 in blocks of 32, rotated, 4.25 bits a value",
        r"written to out.qir",
    ):
        assert re.search(what, shown), (what, shown)
    net = qir.load("out.qir")
    assert isinstance(net, LanguageNet) and net.report().caches is not None
    assert "keys and values: bfp4" in str(net.report()) and "bfp4" in net.report().html()
    graph, rows = net.entries["decode"], []
    assert any(isinstance(op, UnpackRows) for op in graph.ops)
    memory, tokens = StateMemory(graph), np.load("ids.npy")[0]
    for at, token in enumerate(tokens):
        (logits,) = memory.call(graph, [np.array([[token]]), np.array(at)])
        rows.append(dequantize_outputs(graph, [logits, *memory.arrays.values()])[0][0, 0])
    assert np.array_equal(net.logits(tokens), np.array(rows))


def test_all_undone(files: Path) -> None:
    """The same call of qir.compile, with and without."""
    ids = np.load(files / "ids.npy")
    asked = {"outliers": "auto", "kv": "bfp4", "concurrency": 2, "skip": 0.1}
    net = qir.compile(files / "net.qir", calibration=ids, **asked)
    report = net.report()
    assert report.depth is not None and report.depth.removed and report.depth.groups
    assert report.caches is not None and report.caches.bits == 4.25
    tokens = ids[:1].astype(np.int32)
    (wanted,) = interpret(net.stages["integer"], [tokens])
    assert np.array_equal(net.run_integer(tokens), wanted)
    plain = qir.compile(files / "net.qir", calibration=ids, **dict.fromkeys(asked))
    assert plain.report().depth is plain.report().caches is None
    assert not {"choose-outliers", "pack-caches"} & {row.name for row in plain.report().passes}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("none.qir --calibration ids.npy", "none.qir: no such file, a model is needed"),
        ("ids.npy --calibration ids.npy", "ids.npy: a file in .npy, a Hugging Face folder or .*"),
        (
            "net.pt --calibration ids.npy",
            "net.pt: a file in .pt, .* is needed\nhint: in Python, .*",
        ),
        ("empty --calibration ids.npy", "empty: no config.json in it, the folder .* is needed"),
        ("bad.gguf --calibration ids.npy", "bad.gguf: .*"),
        ("net.qir --calibration two.npz", "two.npz: 2 arrays in a file, one .*\nhint: .*"),
        ("net.qir --calibration reals.npy", "reals.npy: float32.8, 16., integer token ids .*"),
        ("net.qir --calibration ids.npy --kv 5", "kv: 5 given, one of 8, 4, .* is needed"),
        ("net.qir --calibration ids.npy --skip 2", "skip: share is 2.0, above 0 and below 1 .*"),
        (
            "net.qir --calibration ids.npy --skip 0.2 --decode-skip 1.2",
            "--decode-skip: given with --skip, one of them is needed",
        ),
        ("net.qir --calibration ids.npy --outliers odd", "outliers: 'odd' given, one of .*"),
        ("net.qir --calibration ids.npy --prefill 1", "prefill: 1 given, an integer from 2 on .*"),
        ("net.qir --calibration ids.npy --size 0.5", "--size: given with --bits 8, .* is needed"),
    ],
)
def test_what_fails(
    arguments: str, error: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(files)
    more = ["--max-tokens", "16", "-o", "other.qir"]
    assert main(["compile-lm", *arguments.split(), *more]) == FAILED
    shown = capsys.readouterr().err
    assert re.fullmatch(f"error: {error}\n(hint: [^\n]*\n)?", shown), shown
