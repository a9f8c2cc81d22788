"""Artifacts for another machine: what an emulated one gives, and what is said when it cannot."""

from __future__ import annotations

import errno
import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qir import runtime
from qir.backends.targets import TARGETS
from qir.runtime import ArtifactError, DataError, MachineError, border, emulated, format
from tests.runtime.test_load import resealed
from tests.small_graphs import artifact

ALIEN = {"machine": "vax", "name": "vax"}


def alien(runner: str | None = "weights.bin", **change: Any) -> runtime.Loaded:
    """An artifact for a machine nobody has."""
    files = dict(artifact().files)
    target = {**json.loads(files["manifest.json"])["target"], **ALIEN}
    manifest = {"target": target, "runner": runner, "emulator": ["qemu-arm", "-cpu", "max"]}
    return runtime.from_files(resealed(files, {**manifest, **change}))


def emulated_by(
    tmp_path: Path, script: str, seconds: float = 60, loaded: runtime.Loaded | None = None
) -> runtime.Emulated:
    """Under an emulator that is a shell script."""
    emulator = tmp_path / "emulate"
    emulator.write_text(f"#!/bin/sh\n{script}\n")
    emulator.chmod(0o755)
    return runtime.Emulated(loaded or alien(), seconds, emulator=[str(emulator), "-cpu", "max"])


def outputs() -> bytes:
    """What a right runner would write for the golden inputs."""
    session = runtime.Session(runtime.from_files(artifact().files))
    return b"".join(y.tobytes() for _, ys in session.golden() for y in ys)


def test_a_right_runner_passes_the_self_test(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(outputs())
    script = f"cat >{tmp_path}/in; echo $@ >{tmp_path}/said; cat {tmp_path}/out"
    session = emulated_by(tmp_path, script)
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
    session = emulated_by(tmp_path, f"cat >/dev/null; cat {tmp_path}/out")
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
    session = emulated_by(tmp_path, script, 0.2 if "sleep" in script else 60)
    with pytest.raises(ArtifactError, match=f"artifact small: its runner under .*/emulate {why}"):
        session.selftest()


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = alien()
    with pytest.raises(DataError, match="artifact small: 2 threads, an emulated program has 1"):
        runtime.opened(loaded, threads=2, emulate=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    why = "artifact small: qemu-arm is not installed, it is needed to emulate vax\nhint: apt-get"
    with pytest.raises(ArtifactError, match=why):
        runtime.opened(loaded, emulate=True)
    with pytest.raises(ArtifactError, match="made for vax without a runner, one is needed to emul"):
        runtime.Emulated(alien(runner=None))
    assert emulated.package("qemu-arm") == "qemu-user"
    assert emulated.package("qemu-system-arm") == "qemu-system-arm"


@pytest.mark.parametrize("emulator", [["/bin/sh"], ["qemu-arm"], ["sh", "-c", "id"], ["\x1b[2J"]])
def test_no_command_of_a_manifest_is_started(emulator: list[str]) -> None:
    loaded = alien(emulator=emulator)
    with pytest.raises(ArtifactError) as e:
        runtime.opened(loaded, emulate=True)
    name = ascii(" ".join(emulator))
    assert str(e.value).splitlines() == [
        f"artifact small: its emulator is {name}, one that the runtime knows is needed",
        "hint: runtime.Emulated(loaded, emulator=[...]) runs a command of your own",
    ]
    with pytest.raises(MachineError) as machine:
        runtime.opened(loaded)
    assert machine.value.hint == "compile for target cpu on this machine"


def test_the_runtime_knows_the_emulators_of_all_targets() -> None:
    commands = {make().emulator for make in TARGETS} - {()}
    assert commands == set(format.EMULATORS)


def test_a_runner_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: str) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(emulated.tempfile, "mkdtemp", full)
    with pytest.raises(ArtifactError, match=r"runner cannot be written .*\(No space left on devi"):
        runtime.Emulated(alien(), emulator=["sh"])


def test_the_runner_is_its_own_process_to_remove(tmp_path: Path) -> None:
    program = emulated_by(tmp_path, "cat >/dev/null; echo")
    file = Path(program._command[-1])
    child = os.fork()
    if child == 0:
        program.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert file.exists()
    del program
    gc.collect()
    assert not file.parent.exists()


@pytest.mark.parametrize("number", [-1, 1, 2**31 - 1])
def test_a_variant_that_is_none_is_refused(tmp_path: Path, number: int) -> None:
    (tmp_path / "number").write_bytes(number.to_bytes(4, "little", signed=True))
    variant = {"name": "a", "needs": [], "steps": []}
    program = emulated_by(tmp_path, f"cat {tmp_path}/number", loaded=alien(variants=[variant]))
    with pytest.raises(ArtifactError, match=f"chose variant {number}, one of 1 is needed"):
        assert program.variant


def test_an_artifact_of_another_machine_can_be_looked_into(tmp_path: Path) -> None:
    loaded = alien()
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
    program = emulated_by(tmp_path, "")
    home = Path(program._command[-1]).parent
    with pytest.raises(ArtifactError, match="artifact small: emulated, a machine of its own"):
        program.profile()
    program.close()
    assert not home.exists()
