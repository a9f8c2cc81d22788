"""Programs for machines that this one is not: made, looked into, saved, and refused when called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import qir
from qir.cli import FAILED, main
from qir.loading import look
from tests.small_graphs import residual_network

Capture = pytest.CaptureFixture[str]
HERE = "artifact small: made for cortex-m4, this is "


@pytest.fixture(scope="module")
def net() -> qir.Net:
    return qir.compile(residual_network(), target="cortex-m4")


def test_it_is_compiled_reported_and_saved(net: qir.Net, tmp_path: Path, capsys: Capture) -> None:
    assert net.stages["integer"] == residual_network()
    assert net.report().target == "cortex-m4"
    saved = net.save(tmp_path / "small.qir")
    assert look(saved).report() == net.report()
    assert main(["report", str(saved)]) == 0
    text = capsys.readouterr().out
    assert "small for cortex-m4" in text
    flash, ram = (json.loads((saved / "manifest.json").read_text())["memory"][f"{kind}_bytes"]
                  for kind in ("flash", "ram"))  # fmt: skip
    assert f"{flash:,} bytes of flash, {ram:,} of RAM beside the stack" in text
    assert f"{flash:,} bytes of flash" in net.report().html()


def test_a_call_says_whose_it_is_and_how_to_emulate(
    net: qir.Net, tmp_path: Path, capsys: Capture
) -> None:
    x = np.zeros(net.session.inputs[0].shape, np.float32)
    saved = net.save(tmp_path / "small.qir")
    for call in (lambda: net(x), lambda: net.run_integer(x), lambda: qir.load(saved)):
        with pytest.raises(qir.ArtifactError) as e:
            call()
        text, hint = str(e.value).splitlines()
        assert text.startswith(HERE)
        assert (
            hint == "hint: qir.load(..., emulate=True) or qir run --emulate runs it under qemu-arm"
        )
    np.save(tmp_path / "x.npy", x)
    for command in (
        ["run", "--input", str(tmp_path / "x.npy")],
        ["bench"],
        ["report", "--profile"],
    ):
        assert main([command[0], str(saved), *command[1:]]) == FAILED
        assert capsys.readouterr().err.startswith(f"error: {HERE}")


def test_without_its_emulator_it_says_what_to_install(
    net: qir.Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = net.save(tmp_path / "small.qir")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(qir.ArtifactError, match=r"qemu-arm is not installed.*\nhint: apt-get inst"):
        qir.load(saved, emulate=True)


def test_a_native_artifact_is_not_emulated(tmp_path: Path) -> None:
    saved = qir.compile(residual_network()).save(tmp_path / "small.qir")
    assert json.loads((saved / "manifest.json").read_text())["runner"] is None
    with pytest.raises(qir.ArtifactError, match="small: made for cpu without a runner, one is nee"):
        qir.load(saved, emulate=True)
