"""Child processes that run Python import nothing that lies beside the caller's script or model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CALL = """
import pickle
from pathlib import Path
from qir.backends.targets.toolchains import zig
from qir.backends.toolchain import link, service

(answer,) = service.answers([pickle.dumps(({"kind": "c"}, {}))])
print(answer.version, *answer.faults)
compiler = zig("x86_64-linux-gnu.2.17")
assert link.is_there(compiler.compiler)
print(link.version(compiler, Path.cwd()))
"""
PLANTED = ("tvm", "tvm_ffi", "ml_dtypes", "ziglang")


RARE = [pytest.param(how, marks=pytest.mark.full) for how in ("safe", "empty entries")]


@pytest.mark.parametrize("how", ["command", "script", "relative entry", *RARE])
def test_modules_of_the_callers_folder_do_not_run(tmp_path: Path, how: str) -> None:
    for name in PLANTED:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit\n"
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "call.py").write_text(CALL)
    run = {"safe": ["-P", "-c", CALL], "command": ["-c", CALL]}.get(how, ["call.py"])
    path = {"empty entries": ":", "relative entry": f".:{tmp_path}"}.get(how)
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")}
    if path is not None:
        variables["PYTHONPATH"] = path
    command = [sys.executable, *run]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.27."), done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()
