"""Cortex-M55: what its bare-metal image computes on an emulated board is the interpreter's, bit for
bit, and it ends with the statuses that every runner ends with.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qir.backends import Artifact, build
from qir.frontends.onnx import import_onnx
from qir.ir.graph import Graph
from qir.ir.interpret import quantize_inputs
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE, TO_INTEGER, quantize, transform
from qir.passes.transform.channel_ranges import first_samples
from tests.emulated.harness import assert_same_bits, need_emulator
from tests.random_graphs import batch, random_inputs

CASES = 16  # of each network


def ran(artifact: Artifact, folder: Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """The artifact's runner on the emulated board."""
    file = folder / "runner"
    file.write_bytes(artifact.files["runner"])
    command = [*artifact.target.emulator, str(file)]
    return subprocess.run(command, input=given, capture_output=True, timeout=300)


def integers(case: Any) -> Graph:
    """A float model of the zoo, quantized to 8 bits."""
    manager = Manager()
    graph = manager.run(import_onnx(case.model), CANONICALIZE)
    sample, batches = first_samples(graph, case.calibration())
    graph = manager.run(graph, transform(graph, sample))
    simulated = manager.run(
        graph, quantize(calibrate(graph, batches), reference=graph, sample=sample)
    )
    return manager.run(simulated, TO_INTEGER)


MORE = [pytest.param(name, marks=pytest.mark.full) for name in ("resnet8", "vww")]


@pytest.mark.parametrize("name", ["dscnn", "autoencoder", *MORE])
def test_networks_give_the_same_bits(zoo: ModuleType, name: str) -> None:
    case = zoo.ZOO[name]
    graph, x = integers(case), case.inputs()
    chosen = x[:: max(1, len(x) // CASES)][:CASES]
    cases = [quantize_inputs(graph, [sample[None]]) for sample in chosen]
    assert_same_bits(graph, "cortex-m55", cases)


def test_random_graphs_give_the_same_bits() -> None:
    graph, rng = batch(range(8)), np.random.default_rng(0)
    cases = [random_inputs(graph, rng, extreme=i % 2 == 1) for i in range(4)]
    assert_same_bits(graph, "cortex-m55", cases)


def test_statuses_are_those_of_every_runner(tmp_path: Path) -> None:
    """Nothing to do, and input that ends early."""
    need_emulator("cortex-m55")
    graph = batch([0])
    artifact = build(graph, "cortex-m55")
    assert ran(artifact, tmp_path, struct.pack("<I", 0)).returncode == 0
    assert ran(artifact, tmp_path, struct.pack("<I", 1)).returncode == 2
    assert ran(artifact, tmp_path, b"\1\0").returncode == 2
