"""Bad input of any kind: one line that says what, a hint where there is one, an exit status."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qir.cli import commands, main
from qir.cli.syntax import FAILED, INTERRUPTED, USAGE
from tests.roof.conftest import Made
from tests.roof.test_cli import ADD_ZERO

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def files(made: Made, tmp_path: Path) -> Path:
    """A folder with things that are wrong, and the right ones beside them."""
    np.save(tmp_path / "data.npy", np.load(made.data))
    np.save(tmp_path / "wrong.npy", np.zeros((4, 3, 9, 9), np.float32))
    np.save(tmp_path / "nan.npy", np.full((4, 3, 8, 8), np.nan, np.float32))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "object.npy", np.array([{}], object))
    np.savez(tmp_path / "many.npz", x=np.zeros((4, 3, 8, 8), np.float32), y=np.zeros(4))
    np.savez(tmp_path / "none.npz")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "data.npy").read_bytes()[:200])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "many.npz").read_bytes()[:300])
    (tmp_path / "cut.onnx").write_bytes(made.model.read_bytes()[:100])
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / "net.pt").write_bytes(b"PK")
    (tmp_path / "net.tflite").write_bytes(b"TFL3")
    (tmp_path / "g.qir").write_text(ADD_ZERO)
    (tmp_path / "bad.qir").write_text(ADD_ZERO.replace("add(", "odd("))
    (tmp_path / "empty").mkdir()
    (tmp_path / "readonly").mkdir()
    shutil.copytree(made.artifact, tmp_path / "a.qir")
    shutil.copytree(made.artifact, tmp_path / "changed.qir")
    weights = tmp_path / "changed.qir" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    (tmp_path / "m.onnx").write_bytes(made.model.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("compile none.onnx", "none.onnx: no such file, a model is needed"),
        ("compile cut.onnx --calibration data.npy", "cut.onnx.*"),
        ("compile data.csv --calibration data.npy", "data.csv.*"),
        ("compile net.pt --calibration data.npy", "net.pt: a .pt file, .onnx or .qir is needed"),
        ("compile net.tflite", "net.tflite: a .tflite file, .onnx or .qir is needed"),
        ("compile m.onnx", "quantize-graph: 4 values .*, calibrated ranges are needed"),
        ("compile m.onnx --calibration none.npy", "none.npy: cannot be read .No such file.*"),
        ("compile m.onnx --calibration data.csv", "data.csv: a file in .npy or .npz, .* is needed"),
        ("compile m.onnx --calibration cut.npy", "cut.npy: damaged or no arrays of numbers .*"),
        ("compile m.onnx --calibration cut.npz", "cut.npz: damaged or no arrays of numbers .*"),
        ("compile m.onnx --calibration text.npy", "text.npy: text holds <U1, numbers are needed"),
        (
            "compile m.onnx --calibration object.npy",
            "object.npy: damaged or no arrays .*",
        ),
        ("compile m.onnx --calibration none.npz", "none.npz: empty, one array or more is needed"),
        (
            "compile m.onnx --calibration many.npz:z",
            "many.npz: no array .z., one of x, y .*",
        ),
        ("compile m.onnx --calibration empty", "empty: no .npy or .npz file in it, .* are needed"),
        (
            "compile m.onnx --calibration many.npz",
            "calibration batch 0: arrays are called x, y, 1 are needed: image",
        ),
        ("compile m.onnx --calibration wrong.npy", ".*9.*8.*"),
        ("compile m.onnx --calibration nan.npy", ".*NaN.*"),
        ("compile m.onnx --calibration data.npy --target vax", "target vax: unknown, one of cpu.*"),
        ("compile m.onnx --calibration data.npy --observer eye", "observer 'eye'.*"),
        ("compile m.onnx --calibration data.npy --bits 99", ".*99.*"),
        (
            "compile m.onnx --calibration data.npy -o m.onnx",
            "m.onnx: is no folder, a free path .*",
        ),
        ("compile m.onnx --calibration data.npy -o m.onnx/x.qir", ".*m.onnx.*"),
        ("run none.qir --input data.npy", "none.qir.*"),
        ("run empty --input data.npy", "empty.*"),
        ("run changed.qir --input data.npy", "changed.qir: files are damaged"),
        ("run a.qir --input wrong.npy", r"input image: shape \[4, 3, 9, 9\] given, .* is needed"),
        (
            "run a.qir --input data.npy --input data.npy",
            "--input data.npy data.npy: 2 arrays, 1 are needed: image",
        ),
        ("run a.qir --input data.npy --integer", "input image: float32.* given, uint8.* is needed"),
        ("run a.qir --input data.npy -o y.csv", "y.csv: 1 outputs to write, a name in .npy or .*"),
        ("run a.qir --input data.npy -o none/y.npy", r"none/y.npy: cannot be written \(No such .*"),
        (
            "run a.qir --input many.npz --input many.npz",
            "many.npz: array 'x' is in another --input too, one is needed",
        ),
        *(
            (
                f"{command} {file}",
                f"{file}: no folder, that of an artifact is needed\nhint: of a model, qir compile"
                f" {file} -o FOLDER makes one",
            )
            for command in ("bench", "report", "run --input data.npy")
            for file in ("g.qir", "m.onnx")
        ),
        (
            "bench empty",
            "empty/manifest.json: cannot be read .*, the .*\nhint: qir compile MODEL .*",
        ),
        ("report none.qir", "none.qir.*"),
        ("report a.qir --html none/page.html", "none/page.html: cannot be written .*"),
        ("opt none.qir --passes fold-constants", "none.qir: no such file, a graph is needed"),
        ("opt a.qir --passes fold-constants", "a.qir: a folder, a graph is needed"),
        ("opt bad.qir --passes fold-constants", ".*odd.*"),
        ("opt g.qir", "no pass to run: --passes, --pipeline or --explain is needed"),
        ("opt g.qir --passes nope", "pass 'nope': not known, one of .* is needed"),
        (
            "opt g.qir --passes fold-constants(n=3)",
            "pass fold-constants: option n: not known, one of none is needed",
        ),
        ("opt g.qir --passes a;b", "passes ';b': found ';', a character .*"),
        (
            "opt g.qir --passes rescue-groups(group=big)",
            "pass rescue-groups: option group: found 'big', int is needed",
        ),
        ("opt g.qir --passes quantize-graph", "quantize-graph: 2 values .* are needed"),
        ("opt g.qir --pipeline nope", "pipeline nope: not known, one of canonicalize.* is needed"),
        ("opt g.qir --passes fold-constants --pipeline canonicalize", "--passes and --pipeline .*"),
        ("opt g.qir --passes fold-constants --explain b", "pass b: not among those that ran, .*"),
    ],
)
def test_what_fails(
    arguments: str, error: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(files)
    before = {p: p.stat().st_mtime_ns for p in files.rglob("*")}
    assert main(arguments.split()) == FAILED
    shown = capsys.readouterr()
    assert re.match(f"error: {error}\n", shown.err), shown.err
    assert "fault in qir itself" not in shown.err
    assert {p: p.stat().st_mtime_ns for p in files.rglob("*")} == before  # nothing half-written


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("compille", "argument COMMAND: invalid choice: 'compille' .*"),
        ("compile", "the following arguments are required: model"),
        ("compile m --bits 8,x", "argument --bits: '8,x' given, as in 8, 4,8, w4g32a8, .*"),
        ("compile m --bits 1,2,3", "argument --bits: '1,2,3' given, as in 8, 4,8, .*"),
        ("compile m --batch 0", "argument --batch: '0' given, a positive integer is needed"),
        ("compile m --shape 1,2", "argument --shape: '1,2' given, as in input=1,3,224,224 .*"),
        ("compile m --shape x=1,-2", "argument --shape: 'x=1,-2' given, .* is needed"),
        ("run a", "the following arguments are required: --input"),
        ("bench a --seconds x", "argument --seconds: 'x' given, seconds up to a day are needed"),
        ("bench a --seconds nan", "argument --seconds: 'nan' given, seconds up to a day .*"),
        ("bench a --threads -1", "argument --threads: '-1' given, a positive integer is needed"),
        ("bench a --sec 1", "unrecognized arguments: --sec 1"),
    ],
)
def test_usage(arguments: str, error: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == USAGE
    assert re.match(rf"error: {error}\nhint: qir.* --help\n$", capsys.readouterr().err)


def test_two_inputs_of_unlike_length() -> None:
    from qir.ir.errors import DataError
    from qir.runtime import Port

    ports = tuple(
        Port(name, np.dtype(np.int8), (1, 2), -128, 127, None, None, None) for name in "ab"
    )
    arrays = (np.zeros((3, 2), np.int8), np.zeros((4, 2), np.int8))
    with pytest.raises(DataError, match="inputs hold 3 and 4 batches, one number is needed"):
        commands._run_all(lambda a, b: a, ports, arrays)


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (ValueError("odd\nlines"), FAILED, "error: a fault in qir itself: ValueError: odd\nhint: "),
        (
            ModuleNotFoundError("No module named 'rich'", name="rich.table"),
            FAILED,
            "error: Python package rich: not installed, qir needs it\nhint: pip install qir\n",
        ),
        (
            ModuleNotFoundError("No module named 'qir.x'", name="qir.x"),
            FAILED,
            "error: a fault in qir itself: ModuleNotFoundError: No module named 'qir.x'\n",
        ),
        (MemoryError(), FAILED, "error: out of memory\nhint: "),
        (KeyboardInterrupt(), INTERRUPTED, "error: interrupted\n"),
        (PermissionError(13, "Permission denied", "f"), FAILED, "error: f: Permission denied\n"),
    ],
)
def test_faults_of_any_kind(
    fault: BaseException,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def fail(_: object) -> None:
        raise fault

    monkeypatch.setattr(commands, "list_targets", fail)
    assert main(["targets"]) == status
    assert capsys.readouterr().err.startswith(text)


def test_ctrl_c_ends_it_cleanly(made: Made) -> None:
    command = [sys.executable, "-m", "qir", "bench", str(made.artifact), "--seconds", "600"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:  # what runs in a shell's background ignores ctrl-c, and so would its children
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(6)
    child.send_signal(signal.SIGINT)
    _, shown = child.communicate(timeout=30)
    assert child.returncode == INTERRUPTED and shown == "error: interrupted\n"


COMMANDS = (
    "compile {}",
    "compile m.onnx --calibration {}",
    "compile m.onnx --calibration data.npy -o m.onnx/{}",
    "compile m.onnx --calibration data.npy --bits {}",
    "compile m.onnx --target {}",
    "compile m.onnx --calibration data.npy --state m.onnx/{}",
    "compile m.onnx --calibration data.npy --observer {}",
    "run {} --input data.npy",
    "run a.qir --input {}",
    "run a.qir --input data.npy -o {}",
    "run a.qir --input data.npy --variant {}",
    "run a.qir --input {}.npz:x",
    "bench {}",
    "report {}",
    "report a.qir --html {}",
    "opt {} --passes fold-constants",
    "opt g.qir --passes {}",
    "opt g.qir --pipeline {}",
    "opt g.qir --passes fold-pad --explain {}",
    "opt g.qir --passes fold-constants -o {}",
    "cases {}",
    "bench a.qir --threads {}",
    "{}",
    "bench a.qir {}",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_control_characters_of_an_argument_start_no_line(
    command: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A path of two lines, in a folder that is not there, or a text that is no option's value."""
    monkeypatch.chdir(files)
    outside = "no\nerror: x\x1b[2J\x85/\u202ey"
    try:
        assert main([part.format(outside) for part in command.split()]) == FAILED
    except SystemExit as e:
        assert e.code == USAGE
    first, *more = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert first.startswith("error: ") and (first + "".join(more)).isprintable()
    assert [line[:6] for line in more] in ([], ["hint: "])
