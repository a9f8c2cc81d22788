"""What an artifact's README and manifest say: the snippet builds and runs, the sizes are exact."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qir.backends import build
from qir.backends.artifact.artifact import Artifact
from qir.backends.c import executables
from qir.backends.targets import TARGETS, find
from qir.backends.toolchain import elf
from qir.backends.toolchain.link import link, toolchain
from qir.ir.target import PYTHON
from tests.small_graphs import artifact, residual_network

MAIN = """
#include <stdio.h>
#include <string.h>
int main(void) {
    FILE *f = fopen("golden.bin", "rb");
    if (!f || !fread(input_0, 768, 1, f) || compute()) return 1;
    unsigned char wanted[10];
    return !fread(wanted, 10, 1, f) || memcmp(wanted, output_0, 10) != 0;
}
"""


@pytest.fixture(scope="module")
def m4() -> Artifact:
    return build(residual_network(), "cortex-m4")


def readme(built: Artifact) -> str:
    return built.files["README.md"].decode()


def snippet(built: Artifact) -> str:
    match = re.search(r"```c\n(.*?)```", readme(built), re.DOTALL)
    assert match is not None
    return match[1]


def test_the_snippet_links_as_said_and_computes(tmp_path: Path) -> None:
    home = artifact().save(tmp_path / "small.qir")
    (home / "main.c").write_text(snippet(artifact()) + MAIN)
    command = re.search(r"    (cc -O2 main.c .*)", readme(artifact()))
    assert command is not None
    subprocess.run([*shlex.split(command[1]), "-Wall", "-Werror"], cwd=home, check=True)
    assert subprocess.run(["./program"], cwd=home).returncode == 0


def test_sizes_are_those_of_what_is_linked(m4: Artifact, tmp_path: Path) -> None:
    """An image of the snippet, for bare metal: the core and nothing of the border."""
    home, tools = m4.save(tmp_path / "small.qir"), toolchain(find("cortex-m4"))
    (home / "main.c").write_text(snippet(m4))
    (home / "freestanding.c").write_text(executables.freestanding())
    compiler = [sys.executable if word == PYTHON else word for word in tools.compiler]
    flags = ("-O2", "-ffreestanding", "-fno-builtin", "-nostdlib", "-static", "-Wl,--gc-sections",
             "-ffunction-sections", "-fdata-sections", "-Wl,-e,compute")  # fmt: skip
    files = ("main.c", "freestanding.c", "small_weights.S", "libsmall.a")
    subprocess.run([*compiler, *tools.flags, *flags, *files, "-o", "image"], cwd=home, check=True)
    image, said = (home / "image").read_bytes(), m4.manifest["memory"]
    assert not [s.name for s in elf.symbols(image) if "run_float" in s.name or "fdiv" in s.name]
    sizes = elf.loaded_sizes(image)
    own = sizes.text + sizes.rodata + sizes.data - said["flash_bytes"]
    assert 0 < own < 400  # compute and memset
    buffers = said["ram_bytes"] + said["input_bytes"] + said["output_bytes"]
    assert 0 <= sizes.bss - buffers < 128 + 4 * 64  # slack and alignment


def test_the_manifest_adds_up(m4: Artifact) -> None:
    memory, manifest = m4.manifest["memory"], m4.manifest
    sizes = elf.loaded_sizes(m4.files["small.o"])
    sections = [memory[f"{kind}_bytes"] for kind in ("text", "rodata", "data", "bss")]
    assert sections == [sizes.text, sizes.rodata, sizes.data, sizes.bss] and sizes.text > 0
    assert memory["flash_bytes"] == sum(sections[:3]) + manifest["weights_bytes"]
    assert memory["ram_bytes"] == sum(sections[2:]) + manifest["workspace_bytes"]
    assert sections[2:] == [0, 0]  # the table of steps stays in flash
    assert (memory["input_bytes"], memory["output_bytes"]) == (768, 10)
    assert f"| **flash** (read-only) | **{memory['flash_bytes']:,}** |" in readme(m4)
    assert f"| **RAM** | **{memory['ram_bytes']:,}** |" in readme(m4)


def test_the_core_holds_no_float_helper(m4: Artifact) -> None:
    for built in (m4, artifact()):
        symbols = elf.undefined(built.files["small.o"])
        assert set(symbols) <= {"memset", "memcpy", "clock_gettime"}
        assert b"tvm.fp16" not in built.files["small.o"]


@pytest.mark.parametrize("target", [make().name for make in TARGETS])
def test_every_target_says_how_to_link_and_check(target: str) -> None:
    from qir.backends.artifact import readme as deploy

    program, machine = artifact().program, find(target)
    assert "main.c small_weights.S" in deploy._link(program, machine)
    check = deploy._check(program, machine)
    assert "selftest" in check and PYTHON not in check
    assert ("emulate=True" in check) == bool(machine.emulator)
    assert ("./selftest ." in check) == machine.is_hosted


def test_sections_are_counted_by_kind() -> None:
    code = """
    extern const int c[25]; extern int d[10], z[7];
    int a_run(int);
    const int c[25] = {1}; int d[10] = {1}; int z[7];
    int a_run(int i) { return c[i] + d[i] + z[i]; }
    """
    linked = link(find("x86-64"), "a", {"a.c": code}, {}, ["a_run"], {})
    sizes = elf.loaded_sizes(linked.object)
    assert (sizes.data, sizes.bss) == (40, 28)
    assert sizes.rodata >= 100 and 0 < sizes.text < 200
