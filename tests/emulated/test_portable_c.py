"""Portable C on machines of other byte orders and widths gives the interpreter's bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qir.backends import build
from tests.emulated.portable import MACHINES, self_test
from tests.random_graphs import batch
from tests.small_graphs import artifact

TRIPLES = [
    "arm-linux-musleabihf",
    "s390x-linux-musl",
    pytest.param("powerpc-linux-musleabihf", marks=pytest.mark.full),
]


@pytest.fixture(scope="module", params=["all", "sequences"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = batch(range(120_000, 120_008), family=request.param)
    return build(graph, "c", "prog").save(tmp_path_factory.mktemp("c") / "prog.qir")


@pytest.mark.parametrize("triple", TRIPLES)
def test_the_self_test_passes(triple: str, folder: Path) -> None:
    emulator = MACHINES[triple]
    if shutil.which(emulator) is None:
        pytest.skip(f"{emulator}: not found; apt-get install qemu-user")
    assert self_test(folder, "prog", triple) == ""


def test_a_wrong_byte_is_found(tmp_path: Path) -> None:
    triple = "s390x-linux-musl"
    if shutil.which(MACHINES[triple]) is None:
        pytest.skip(f"{MACHINES[triple]}: not found; apt-get install qemu-user")
    folder = artifact("c").save(tmp_path / "small.qir")
    golden = folder / "golden.bin"
    content = golden.read_bytes()
    golden.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert " 1 wrong" in self_test(folder, "small", triple, "-O1")
