"""What compile checks before its work, and after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import qir
from qir.backends.artifact import artifact
from qir.backends.toolchain import link
from qir.ir import ranges
from tests.small_graphs import residual_network


def test_a_missing_compiler_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def calibration() -> Iterator[Any]:
        raise AssertionError("work has begun")
        yield

    monkeypatch.setattr(link, "is_there", lambda command: False)
    with pytest.raises(qir.LowerError, match="target x86-64: no C compiler found, one of these"):
        qir.compile("no such model.onnx", calibration=calibration(), target="x86-64")


def test_code_that_gives_other_bits_than_the_graph_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build = artifact.build

    def miscompiled(*arguments: Any) -> artifact.Artifact:
        built = build(*arguments)
        golden = bytearray(built.files["golden.bin"])
        golden[-1] ^= 1
        return built.with_file("golden.bin", bytes(golden))

    assert qir.compile(residual_network(), target="c") is not None
    monkeypatch.setattr(artifact, "build", miscompiled)
    with pytest.raises(qir.ArtifactError) as e:
        qir.compile(residual_network(), target="c")
    first, hint = str(e.value).splitlines()
    size = np.prod(residual_network().outputs[-1].type.shape)
    assert first.endswith(f"1 of {size} elements differ, 0 are needed")
    assert "golden case 1, output " in first
    assert hint == "hint: the compilers or qir are at fault: save nothing, report it with the model"


def test_the_overflow_proof_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from qir.backends.proofs import overflow

    calls = []

    def counted(graph: Any) -> Any:
        calls.append(graph)
        return ranges.prove_no_overflow(graph)

    monkeypatch.setattr(overflow, "prove_no_overflow", counted)
    qir.compile(residual_network(), target="c")
    assert len(calls) == 1
