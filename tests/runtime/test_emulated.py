"""Artifacts for another machine: what an emulated one gives, and what is said when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qir import runtime
from qir.runtime import ArtifactError, DataError, MachineError, border, emulated
from tests.runtime.test_load import resealed
from tests.small_graphs import artifact

ALIEN = {"machine": "vax", "name": "vax"}


def alien(tmp_path: Path, script: str, runner: str | None = "weights.bin") -> runtime.Loaded:
    """An artifact for a machine nobody has; its emulator is a shell script."""
    emulator = tmp_path / "emulate"
    emulator.write_text(f"#!/bin/sh\n{script}\n")
    emulator.chmod(0o755)
    files = dict(artifact().files)
    target = {**json.loads(files["manifest.json"])["target"], **ALIEN}
    change = {"target": target, "runner": runner, "emulator": [str(emulator), "-cpu", "max"]}
    return runtime.from_files(resealed(files, change))


def outputs() -> bytes:
    """What a right runner would write for the golden inputs."""
    session = runtime.Session(runtime.from_files(artifact().files))
    return b"".join(y.tobytes() for _, ys in session.golden() for y in ys)


def test_a_right_runner_passes_the_self_test(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(outputs())
    loaded = alien(tmp_path, f"cat >{tmp_path}/in; echo $@ >{tmp_path}/said; cat {tmp_path}/out")
    session = runtime.opened(loaded, emulate=True)
    assert session.selftest() == 2
    inputs = b"".join(x.tobytes() for xs, _ in session.golden() for x in xs)
    assert (tmp_path / "in").read_bytes() == b"\2\0\0\0" + inputs
    assert (tmp_path / "said").read_text().startswith("-cpu max /")
    session.close()


def test_floats_pass_the_border_of_numpy(tmp_path: Path) -> None:
    native = runtime.Session(runtime.from_files(artifact().files))
    x = np.random.default_rng(0).normal(size=native.inputs[0].shape).astype(np.float32)
    stored = border.quantized(native.inputs[0], x)
    (y,) = native.run_integer(stored)
    (tmp_path / "out").write_bytes(y.tobytes())
    session = runtime.opened(alien(tmp_path, f"cat >/dev/null; cat {tmp_path}/out"), emulate=True)
    assert np.array_equal(session(x), native(x))
    with pytest.raises(DataError, match="artifact small: 0 inputs given, 1 are needed"):
        session()
    with pytest.raises(DataError, match=r"input x: float32\[1\] given"):
        session(x[0, 0, 0, :1])


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", r"ended with status 1 \(the program refuses its arguments\), status 0"),
        ("echo lost >&2; exit 7", "ended with status 7, status 0 is needed\n  lost"),
        ("kill -SEGV $$", "ended with signal SIGSEGV, status 0 is needed"),
        ("cat >/dev/null; echo", "gave 1 bytes, 20 are needed"),
        ("exec sleep 60", "ran over 0.2 s, an end is needed"),
    ],
)
def test_what_an_emulator_does_wrong_is_named(tmp_path: Path, script: str, why: str) -> None:
    session = runtime.Emulated(alien(tmp_path, script), seconds=0.2 if "sleep" in script else 60)
    with pytest.raises(ArtifactError, match=f"artifact small: its runner under .*/emulate {why}"):
        session.selftest()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    loaded = alien(tmp_path, "")
    with pytest.raises(DataError, match="artifact small: 2 threads, an emulated program has 1"):
        runtime.opened(loaded, threads=2, emulate=True)
    (tmp_path / "emulate").unlink()
    why = "artifact small: .*emulate is not installed, it is needed to emulate vax\nhint: apt-get"
    with pytest.raises(ArtifactError, match=why):
        runtime.Emulated(loaded)
    without = alien(tmp_path, "", runner=None)
    with pytest.raises(ArtifactError, match="made for vax without a runner, one is needed to emul"):
        runtime.Emulated(without)
    assert emulated.package("qemu-arm") == "qemu-user"
    assert emulated.package("qemu-system-arm") == "qemu-system-arm"


def test_an_artifact_of_another_machine_can_be_looked_into(tmp_path: Path) -> None:
    loaded = alien(tmp_path, "")
    program = runtime.Program(loaded)
    x = np.zeros(program.inputs[0].shape, np.float32)
    for call in (lambda: program(x), lambda: program.run_integer(x), program.selftest,
                 lambda: program.profile(x), lambda: runtime.opened(loaded)):  # fmt: skip
        with pytest.raises(MachineError) as e:
            call()
        assert e.value.text.startswith("artifact small: made for vax on linux, this is ")
        assert e.value.hint is not None and "emulate=True) or qir run --emulate" in e.value.hint
    assert len(program.golden()) == 2


def test_an_emulated_program_is_not_timed(tmp_path: Path) -> None:
    session = runtime.Emulated(alien(tmp_path, ""))
    home = Path(session._home.name)
    with pytest.raises(ArtifactError, match="artifact small: emulated, a machine of its own"):
        session.profile()
    session.close()
    assert not home.exists()
