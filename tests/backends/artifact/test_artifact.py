"""Artifacts: equal to the interpreter, the same bytes each time, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from qir import runtime
from qir.backends import build
from qir.backends.artifact import folder
from qir.backends.artifact.artifact import Artifact
from qir.backends.artifact.folder import write_folder
from qir.backends.c.entry import identifier
from qir.backends.toolchain import elf
from qir.ir.errors import ArtifactError
from qir.ir.fixed import Rounding
from qir.ir.interpret import interpret
from qir.ir.ops.quantize import dequantized, quantized
from qir.ir.text.file import load_graph
from tests.small_graphs import artifact, residual_network, stored_inputs, two_branches


@pytest.fixture(scope="module")
def built() -> Artifact:
    return artifact()


@pytest.fixture(scope="module")
def session(built: Artifact) -> runtime.Session:
    return runtime.Session(runtime.from_files(built.files))


def test_an_artifact_equals_the_interpreter(session: runtime.Session) -> None:
    graph = residual_network()
    for seed in range(8):
        inputs = stored_inputs(graph, seed)
        for actual, expected in zip(
            session.run_integer(*inputs), interpret(graph, inputs), strict=True
        ):
            assert actual.dtype == expected.dtype and np.array_equal(actual, expected)


def test_floats_pass_the_border_bit_for_bit(session: runtime.Session) -> None:
    graph = residual_network()
    (x,), (y,) = graph.inputs, graph.outputs
    rng = np.random.default_rng(0)
    real = (rng.normal(size=x.type.shape) * 3).astype(np.float32)
    ties = (rng.integers(-300, 300, x.type.shape) + 0.5) * np.float32(0.02)
    huge = rng.choice([np.inf, -np.inf, 1e30, -0.0, 1e-40], x.type.shape)
    for a in (real, ties.astype(np.float32), huge.astype(np.float32)):
        stored = quantized(a, x.type.quant, Rounding.HALF_EVEN)
        (expected,) = interpret(graph, [stored])
        assert np.array_equal(session(a), dequantized(expected, y.type.quant))


def test_several_inputs_and_outputs_have_their_names() -> None:
    graph = two_branches()
    session = runtime.Session(runtime.from_files(build(graph).files))
    assert [p.name for p in session.outputs] == ["y", "left"]
    inputs = stored_inputs(graph)
    actual, expected = session.run_integer(*inputs), interpret(graph, inputs)
    assert all(np.array_equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_compiling_twice_gives_the_same_bytes(built: Artifact) -> None:
    again = build(residual_network())
    assert {n: c for n, c in again.files.items() if built.files[n] != c} == {}


def test_the_library_needs_nothing_but_libc(built: Artifact) -> None:
    symbols = elf.undefined(built.files["libsmall.so"])
    assert set(built.manifest["proofs"]["undefined_symbols"]) == set(symbols)
    assert all(
        n.startswith(("pthread_", "sem_"))
        or n
        in (
            "aligned_alloc",
            "free",
            "clock_gettime",
            "memset",
            "memcpy",
            "getpid",
            "sched_yield",
            "sigfillset",
        )
        for n in symbols
    )
    shown = {s.name for s in elf.symbols(built.files["libsmall.so"]) if s.is_defined}
    assert shown == {f"small_{f}" for f in (
        "run", "run_float", "sizes", "profile", "pool_start", "pool_stop", "quantize_0",
        "dequantize_0",
    )}  # fmt: skip


def test_the_manifest_holds_the_proofs_and_every_file(built: Artifact) -> None:
    manifest = json.loads(built.files["manifest.json"])
    assert set(manifest["files"]) == set(built.files) - {"manifest.json"}
    kernels = {s["kernel"] for s in manifest["steps"]}
    assert set(manifest["proofs"]["integer_only"]["kernels"]) == {f"qir_small_{k}" for k in kernels}
    overflow = manifest["proofs"]["no_overflow"]
    assert overflow["claims"] > 10 and overflow["tightest"][0]["unused_bits"] >= 0
    assert all(c["low"] >= -(2 ** (c["bits"] - 1)) for c in overflow["tightest"])
    assert str(Path.cwd()) not in built.files["manifest.json"].decode()


def test_the_graph_comes_back_from_the_artifact(built: Artifact, tmp_path: Path) -> None:
    saved = built.save(tmp_path / "small.qir")
    assert load_graph(saved / "graph.qir") == residual_network()


def test_the_self_test_runs_without_python(built: Artifact, tmp_path: Path) -> None:
    home = built.save(tmp_path / "small.qir")
    program = str(tmp_path / "selftest")
    command = [
        "cc",
        "-std=c99",
        "-O1",
        "-Wall",
        "-Werror",
        "small_test.c",
        "libsmall.a",
        "-lpthread",
        "-o",
        program,
    ]
    subprocess.run(command, cwd=home, check=True)
    good = subprocess.run([program, str(home)], capture_output=True, text=True)
    assert (good.returncode, good.stdout) == (0, "small: 2 cases, 20 bytes of output, 0 wrong\n")
    golden = bytearray((home / "golden.bin").read_bytes())
    golden[-1] ^= 1
    (home / "golden.bin").write_bytes(golden)
    bad = subprocess.run([program, str(home)], capture_output=True, text=True)
    assert bad.returncode == 1 and "case 1, output 0, byte 9:" in bad.stdout
    (home / "weights.bin").write_bytes(b"short")
    short = subprocess.run([program, str(home)], capture_output=True, text=True)
    assert short.returncode == 2 and "weights.bin: " in short.stderr


@pytest.mark.parametrize(("name", "compiler"), [("a.c", "cc"), ("a.cpp", "c++")])
def test_the_header_serves_c_and_cpp(
    built: Artifact, tmp_path: Path, name: str, compiler: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler}: not found; apt-get install g++")
    (tmp_path / "small.h").write_bytes(built.files["small.h"])
    (tmp_path / name).write_text('#include "small.h"\nint main() { return SMALL_INPUTS != 1; }\n')
    subprocess.run([compiler, "-Wall", "-Werror", "-c", name], cwd=tmp_path, check=True)


def test_steps_are_split_among_threads(built: Artifact) -> None:
    graph = residual_network()
    session = runtime.Session(runtime.from_files(built.files), threads=3)
    for seed in range(30):
        inputs = stored_inputs(graph, seed)
        assert np.array_equal(session.run_integer(*inputs)[0], interpret(graph, inputs)[0])
    session.close()
    assert session.selftest() == 2


# -- saving


def test_saving_again_replaces(built: Artifact, tmp_path: Path) -> None:
    path = built.save(tmp_path / "deep" / "small.qir")
    (path / "weights.bin").unlink()  # damaged
    built.save(path)
    assert runtime.load(path).selftest() == 2
    assert list(path.parent.iterdir()) == [path]


def test_what_is_no_artifact_is_not_replaced(built: Artifact, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="precious: exists and is no artifact, a free path"):
        built.save(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_leaves_nothing(
    built: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(path: Path, content: bytes) -> None:
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(folder, "_write", full)
    with pytest.raises(ArtifactError, match=r"cannot be written \(No space left on device\), room"):
        built.save(tmp_path / "small.qir")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error(built: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ArtifactError, match=r"small.qir: cannot be looked at \(Not a directory\), a free path"
    ):
        built.save(tmp_path / "file" / "small.qir")


def saver(path: Path, built: Artifact) -> int:
    """The process id of one that saves again and again, until it is killed."""
    reader, writer = os.pipe()
    if process := os.fork():
        assert os.read(reader, 1) == b"!"
        os.close(reader)
        os.close(writer)
        return process
    try:
        os.write(writer, b"!")
        while True:
            write_folder(path, built.files)
    finally:
        os._exit(1)


def test_killed_while_saving_it_is_whole_or_absent(built: Artifact, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    path, rng = tmp_path / "out" / "small.qir", np.random.default_rng(0)
    for attempt in range(16):
        if attempt % 2:
            shutil.rmtree(path, ignore_errors=True)
        process = saver(path, built)
        time.sleep(float(rng.uniform(0, 0.03)))
        os.kill(process, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        if path.exists():
            runtime.read(path)
    built.save(path)
    assert list(path.parent.iterdir()) == [path]
    assert runtime.load(path).selftest() == 2


# -- names and compilers


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("net", "net"),
        ("3-d net", "_3_d_net"),
        ("while", "_while"),
        ("né", "n"),
        ("++", "program"),
        ("", "program"),
    ],
)
def test_any_name_becomes_a_c_identifier(given: str, made: str) -> None:
    assert identifier(given) == made
