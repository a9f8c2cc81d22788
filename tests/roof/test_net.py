"""Nets: looking runs no code, saving writes what was compiled or loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qir
from qir.cli import FAILED, main
from qir.loading import look
from qir.runtime import format
from tests.small_graphs import artifact, residual_network, stored_inputs, two_branches

INPUTS = stored_inputs(residual_network())


@pytest.fixture(scope="module")
def net() -> qir.Net:
    return qir.compile(residual_network())


def other(path: Path) -> None:
    """Another program under the same names."""
    qir.compile(two_branches(), name="small").save(path)


def test_looking_runs_no_code(net: qir.Net, tmp_path: Path) -> None:
    saved = net.save(tmp_path / "small.qir")
    (tmp_path / "x.c").write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void f(void)"
        f' {{ FILE *o = fopen("{tmp_path}/ran", "w"); if (o) fclose(o); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", saved / "libsmall.so", tmp_path / "x.c"],
                   check=True)  # fmt: skip
    manifest = json.loads((saved / "manifest.json").read_bytes())
    content = (saved / "libsmall.so").read_bytes()
    manifest["files"]["libsmall.so"] = {"bytes": len(content), "sha256": format.digest(content)}
    (saved / "manifest.json").write_bytes(format.sealed(manifest))
    seen = look(saved)
    assert seen.report() == net.report() and seen.stages["integer"] == residual_network()
    for options in ((), ("--json",), ("--html", str(tmp_path / "page.html"))):
        assert main(["report", str(saved), *options]) == 0
    with pytest.raises(
        qir.ArtifactError, match=r"small: opened to look into it, not to run it\nhin"
    ):
        seen.run_integer(*INPUTS)
    assert not (tmp_path / "ran").exists()
    assert main(["report", str(saved), "--profile"]) == FAILED  # this one was asked to run it
    assert (tmp_path / "ran").exists()


def test_save_writes_what_was_loaded(net: qir.Net, tmp_path: Path) -> None:
    saved = net.save(tmp_path / "small.qir")
    loaded, seen = qir.load(saved), look(saved)
    other(saved)
    for number, one in enumerate((loaded, seen, net)):
        again = qir.load(one.save(tmp_path / f"{number}.qir"))
        assert again.sha256 == net.sha256
        assert np.array_equal(again.run_integer(*INPUTS), net.run_integer(*INPUTS))
    shutil.rmtree(saved)
    assert qir.load(loaded.save(saved)).sha256 == net.sha256


def test_save_over_the_own_folder_and_from_any_folder(
    net: qir.Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net.save("small.qir")
    loaded = qir.load("small.qir")
    loaded.save("small.qir")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded.save("again.qir")
    assert qir.load("again.qir").sha256 == net.sha256


def test_a_child_that_ends_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, qir\n"
        "from tests.small_graphs import residual_network\n"
        "net = qir.compile(residual_network())\n"
        "if not (child := os.fork()): sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "net.save(sys.argv[1])\n"
    )
    path = tmp_path / "small.qir"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert qir.load(path).session.selftest() == 2


def test_a_net_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    net = qir.compile(residual_network())
    assert not list(tmp_path.iterdir())
    net.close()
    assert net.session.selftest() == 2


def test_without_a_package_the_error_names_it_and_the_runtime_serves(
    net: qir.Net, tmp_path: Path
) -> None:
    saved = net.save(tmp_path / "small.qir")
    script = (
        "import sys\n"
        "for name in ('networkx', 'rich', 'torch', 'tvm', 'scipy'): sys.modules[name] = None\n"
        "import qir, qir.runtime\n"
        "assert qir.runtime.load(sys.argv[1]).selftest() == 2\n"
        "try: qir.load(sys.argv[1])\n"
        "except qir.QirError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(saved)], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "qir.load: Python package networkx is not installed, it is needed",
        "hint: pip install qir; qir.runtime.load runs artifacts with NumPy alone",
    ], done.stderr


def test_the_hash_is_asked_for(net: qir.Net, tmp_path: Path) -> None:
    saved = net.save(tmp_path / "small.qir")
    assert qir.load(saved, sha256=net.sha256).sha256 == net.sha256
    other(saved)
    with pytest.raises(qir.ArtifactError, match=f"its hash is .*, {net.sha256} is needed"):
        qir.load(saved, sha256=net.sha256)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (([[1.0], [2.0, 3.0]],), "input: a list that is no array"),
        (({1, 2},), r"input x: object\[\] given"),
        ((None,), r"input x: object\[\] given"),
        (("text",), r"input x: <U4\[\] given"),
    ],
)
def test_what_is_no_array_is_an_error_of_ours(
    net: qir.Net, given: tuple[object, ...], why: str
) -> None:
    for call in (net, net.run_integer):
        with pytest.raises(qir.DataError, match=why):
            call(*given)


def test_an_artifact_without_its_report_is_named(tmp_path: Path) -> None:
    saved = artifact().save(tmp_path / "small.qir")
    for run in (qir.load, look):
        with pytest.raises(
            qir.ArtifactError, match=r"small.qir: no report.json in it, one is need"
        ):
            run(saved)


def test_an_output_that_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    assert main(["compile", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "web")]) == FAILED
    assert "web: exists and is no artifact, a free path" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "web").iterdir()] == ["manifest.json"]
