"""Each command does what its help says."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qir
from qir.backends.targets import TARGETS, find
from qir.backends.toolchain import interpreter
from qir.cli import main
from qir.cli.console import progress
from qir.cli.opt import named_pipelines
from qir.ir.graph import Builder
from qir.ir.ops import Constant, Take
from qir.ir.text.file import save_graph
from qir.ir.types import I8, I32, Quant, Tensor
from qir.measure.machines import builds, runs
from qir.report.model import Report
from tests.roof.conftest import Made

ADD_ZERO = """
graph @g stage=imported (%x: tensor<2xf32>) {
  %zero = constant() {value = data<float32[2], 0.5 0.0>, elem = f32} : tensor<2xf32> loc("m node z")
  %two = add(%zero, %zero) : tensor<2xf32> loc("m node two")
  %y = add(%x, %two) : tensor<2xf32> loc("m node y")
  return %y
}
"""
Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> None:
    assert main([str(a) for a in arguments]) == 0


def test_compile_says_what_was_made(made: Made, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out.qir"
    run("compile", made.model, "--calibration", made.data, "-o", output, "--name", "mine")
    text = capsys.readouterr().out
    assert text.startswith("mine for cpu: ")
    assert "integer only: " in text and "no overflow: " in text
    assert f"written to {output}" in text
    assert qir.load(output).report().name == "mine"


def test_compile_takes_text_batches_and_folders(made: Made, tmp_path: Path) -> None:
    batches = tmp_path / "batches"
    batches.mkdir()
    data = np.load(made.data)
    for i in range(4):
        np.savez(batches / f"{i}.npz", data[4 * i : 4 * i + 4])
    out = tmp_path / "two.qir"
    shape = ("--shape", "image=2,3,8,8")
    run("compile", made.model, "--calibration", batches, "-o", out, *shape)
    assert qir.load(out).report().inputs[0].shape == (2, 3, 8, 8)
    again = tmp_path / "again.qir"
    run("compile", out / "graph.qir", "-o", again, "--name", "two", "--target", "x86-64")
    assert qir.load(again).report().target == "x86-64"


def test_run_equals_python(made: Made, tmp_path: Path, capsys: Capture) -> None:
    net, data = qir.load(made.artifact), np.load(made.data)
    run("run", made.artifact, "--input", made.data, "-o", tmp_path / "y.npy")
    want = np.concatenate([net(x[None]) for x in data])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), want)
    stored = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", other=data, x=stored)
    out = tmp_path / "y.npz"
    run("run", made.artifact, "--input", f"{tmp_path / 'x.npz'}:x", "-o", out, "--integer")
    want = np.concatenate([net.run_integer(x[None]) for x in stored])
    np.testing.assert_array_equal(np.load(out)["scores"], want)
    capsys.readouterr()
    run("run", made.artifact, "--input", made.data)
    assert capsys.readouterr().out.startswith("scores: float32[16, 5]\n[[")


def test_bench_times_the_whole_and_the_ops(made: Made, capsys: Capture) -> None:
    run("bench", made.artifact, "--seconds", "0")
    text = capsys.readouterr().out
    assert "1 thread: least" in text and "of 10 runs" in text and "conv 3x3" in text
    run("bench", made.artifact, "--seconds", "0", "--json")
    held = json.loads(capsys.readouterr().out)
    assert 0 < held["least"] <= held["median"] and held["runs"] == 10
    assert any(held["ops"].values())


def test_bench_takes_indexes_within_their_table(tmp_path: Path, capsys: Capture) -> None:
    b, q = Builder("words", "integer"), Quant.per_tensor(I8, 0.1, 0)
    index = b.input("index", Tensor((1, 6), I32))
    table = b.add(Constant.of(np.arange(40, dtype=np.int8).reshape(10, 4), q), "table")
    save_graph(b.finish([b.add(Take(table, index))]), tmp_path / "words.qir")
    run("compile", tmp_path / "words.qir", "-o", tmp_path / "out.qir", "--name", "words")
    run("bench", tmp_path / "out.qir", "--seconds", "0")
    assert "of 10 runs" in capsys.readouterr().out


def test_report_as_text_json_and_page(made: Made, tmp_path: Path, capsys: Capture) -> None:
    run("report", made.artifact)
    text = capsys.readouterr().out
    assert "Ops, worst SQNR first" in text and "intermediates stay within their bits" in text
    run("report", made.artifact, "--json")
    held = Report.from_json(capsys.readouterr().out)
    assert held == qir.load(made.artifact).report() and held.micros is None
    page = tmp_path / "page.html"
    run("report", made.artifact, "--html", page, "--profile")
    assert capsys.readouterr().out == ""
    assert "Not profiled" not in page.read_text()


def test_opt_runs_passes_on_text(tmp_path: Path, capsys: Capture) -> None:
    graph = tmp_path / "g.qir"
    graph.write_text(ADD_ZERO)
    run("opt", graph, "--passes", "fold-constants,remove-dead-code", "--check")
    assert "data<float32[2], 1.0 0.0>" in capsys.readouterr().out
    run("opt", graph, "--pipeline", "canonicalize", "-o", tmp_path / "out.qir")
    assert "stage=canonical" in (tmp_path / "out.qir").read_text()


def test_opt_explains(tmp_path: Path, capsys: Capture) -> None:
    graph = tmp_path / "g.qir"
    graph.write_text(ADD_ZERO)
    run("opt", graph, "--explain", "fold-constants")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fold-constants: 1 rewrites, 2 misses"
    assert "  %y (add, m node y): an operand is not a constant" in lines


def test_opt_reads_onnx_and_stdin(
    made: Made, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("opt", made.model, "--passes", "fold-constants")
    text = capsys.readouterr().out
    assert text.startswith("graph @") and "stage=imported" in text
    monkeypatch.setattr("sys.stdin", io.StringIO(ADD_ZERO))
    run("opt", "-", "--passes", "fold-constants")
    assert "stage=imported" in capsys.readouterr().out


def test_pipelines_have_names() -> None:
    assert "canonicalize" in named_pipelines()


def test_passes_lists_ours_with_claims(capsys: Capture) -> None:
    run("passes")
    text = capsys.readouterr().out
    assert "fold-constants" in text and "Keeps: every bit" in text
    assert "qir.passes.canonicalize.fold_constants" in text and "canonicalize" in text


def test_targets_say_what_this_machine_can(capsys: Capture) -> None:
    run("targets")
    text = capsys.readouterr().out
    assert "native, host" in text and "yes" in text and "…" not in text
    assert all(name in text for make in TARGETS for name in make().names)


def test_targets_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(interpreter, "has_module", lambda name: False)
    m4, cpu = find("cortex-m4"), replace(find("x86-avx2"), machine=platform.machine())
    assert builds(m4) == "no: pip install ziglang or apt-get install gcc-arm-none-eabi"
    assert runs(m4, frozenset()) == "no: qemu-arm missing, apt-get install qemu-user"
    assert runs(cpu, frozenset()) == f"no: {cpu.needs[0]} and {len(cpu.needs) - 1} more missing"
    assert runs(replace(m4, emulator=()), frozenset()) == "no: needs cortex-m4"


def test_progress_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress() as tell:
        assert tell is None  # under pytest, stderr is no terminal
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress() as tell:
        assert tell is not None
        tell("pass fold-constants", 1, 20)
        tell("calibration", 16, 0)


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qir", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_as_a_program(made: Made) -> None:
    assert python("--version").stdout == f"qir {qir.__version__}\n"
    shown = python("report", made.artifact)
    assert shown.returncode == 0 and shown.stderr == "" and "\x1b" not in shown.stdout
    failed = python("report", made.model)
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.startswith("error: ") and "Traceback" not in failed.stderr


def test_a_closed_pipe_is_no_error(made: Made) -> None:
    line = f"{sys.executable} -m qir report {made.artifact} | head -1"
    shown = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert shown.stdout.count("\n") == 1 and "Traceback" not in shown.stderr


def test_a_report_needs_no_compiler(made: Made) -> None:
    """Only what compiles loads torch, onnx and tvm."""
    script = (
        "import sys\nfrom qir.cli import main\n"
        f"main(['report', {str(made.artifact)!r}, '--profile'])\n"
        f"main(['run', {str(made.artifact)!r}, '--input', {str(made.data)!r}])\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "rich" in shown.stderr
    assert not {"torch", "onnx", "tvm", "tvm_ffi"} & set(shown.stderr.split())


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom qir.cli import main\n"
        "try:\n    main(['compile', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not {"torch", "onnx", "tvm", "scipy", "networkx"} & set(shown.stderr.split())
