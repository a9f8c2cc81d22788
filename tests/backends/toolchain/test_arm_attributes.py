"""Objects for microcontrollers link into firmware of either float ABI, whatever size enums have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qir.backends import find
from qir.backends.toolchain import interpreter
from qir.backends.toolchain.arm_attributes import ENUM_SIZE, VFP_ARGS, attributes, neutral
from qir.ir.errors import LowerError
from tests.small_graphs import artifact

CORES = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
MAIN = """
#include "small.h"
float scale(float x);
float scale(float x) { return x; }
volatile float kept;
void memset(void), memcpy(void), memmove(void);
void memset(void) {} void memcpy(void) {} void memmove(void) {}
int _start(void) { kept = scale(kept); return small_run(0, 0, 0, 0, 0); }
"""


def zig(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    return subprocess.run(
        command, cwd=folder, env=interpreter.environment(), capture_output=True, text=True
    )


@pytest.mark.parametrize("core", CORES)
def test_the_core_fits_either_float_abi(core: str) -> None:
    tags = attributes(artifact(core).files["small.o"])
    assert tags.get(VFP_ARGS, 3) == 3 and tags.get(ENUM_SIZE, 0) == 0
    assert len(tags) > 5  # the others are there: architecture, profile, ...


@pytest.mark.parametrize("abi", ["eabi", "eabihf"])
def test_firmware_of_either_float_abi_links(abi: str, tmp_path: Path) -> None:
    home = artifact("cortex-m4").save(tmp_path / "small.qir")
    (home / "main.c").write_text(MAIN)
    flags = ("-target", f"thumb-freestanding-{abi}", "-mcpu=cortex_m4", "-ffreestanding", "-O2",
             "-fno-builtin", "-nostdlib", "-Wl,-e,_start")  # fmt: skip
    done = zig(home, *flags, "main.c", "libsmall.a", "-o", "firmware.elf")
    assert done.returncode == 0, done.stderr
    assert "VFP" not in done.stderr and "enum" not in done.stderr


@pytest.mark.parametrize("abi", ["eabi", "eabihf"])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m33"])
def test_the_linker_of_gnu_has_nothing_to_say(abi: str, core: str, tmp_path: Path) -> None:
    """Of an object with the other float ABI it says "uses VFP register arguments"."""
    if shutil.which("arm-none-eabi-ld") is None:
        pytest.skip("arm-none-eabi-ld: not found; apt-get install binutils-arm-none-eabi")
    home = artifact(core).save(tmp_path / "small.qir")
    (home / "main.c").write_text(MAIN)
    cpu = core.replace("-", "_")
    flags = ("-target", f"thumb-freestanding-{abi}", f"-mcpu={cpu}", "-ffreestanding", "-O2",
             "-fno-builtin", "-fshort-enums", "-fno-unwind-tables",
             "-fno-asynchronous-unwind-tables", "-c")  # fmt: skip
    done = zig(home, *flags, "main.c", "-o", "main.o")
    assert done.returncode == 0, done.stderr
    link = ["arm-none-eabi-ld", "main.o", "libsmall.a", "-o", "firmware.elf"]
    linked = subprocess.run(link, cwd=home, capture_output=True, text=True)
    assert (linked.returncode, linked.stderr) == (0, "")


def test_a_hard_object_is_made_neutral_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(
        "enum e { A }; float f(float x, enum e k); enum e z;\n"
        "float f(float x, enum e k) { return x + (float)k; }\n"
    )
    flags = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-c", "a.c", "-o", "a.o")
    done = zig(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    before = (tmp_path / "a.o").read_bytes()
    after = neutral(before)
    assert attributes(before)[VFP_ARGS] == 1 and attributes(after)[VFP_ARGS] == 3
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(changed) == sum(t in (ENUM_SIZE, VFP_ARGS) for t in attributes(before))
    assert {t: v for t, v in attributes(after).items() if t not in (ENUM_SIZE, VFP_ARGS)} == {
        t: v for t, v in attributes(before).items() if t not in (ENUM_SIZE, VFP_ARGS)
    }


def test_what_is_not_of_arm_stays_as_it_is() -> None:
    library = artifact("x86-64").files["small.o"]
    assert neutral(library) == library and attributes(library) == {}
    with pytest.raises(LowerError, match="object: starts with"):
        neutral(b"no object at all")
    assert find("hexagon-v68").is_hosted is False
