"""The target c: strict C99 that equals the interpreter, holds no float, and reads well."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from qir.backends import build
from qir.backends.artifact.artifact import Artifact
from qir.backends.c.portable import check_integer_only, comment, floats, kernels
from qir.backends.lowering.lower import lower
from qir.backends.targets import find
from qir.backends.toolchain.compile import compile_kernels
from qir.ir.errors import LowerError
from tests.random_graphs import batch
from tests.run_random_graphs import check
from tests.small_graphs import residual_network

ZIG = (sys.executable, "-m", "ziglang", "cc")
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wundef", "-O3")
COMPILERS = {
    "gcc": ("gcc", "-fstrict-aliasing"),
    "gcc, 32 bits, no C library": ("gcc", "-m32", "-ffreestanding"),
    "clang, x86-64": (*ZIG, "-target", "x86_64-linux-musl"),
    "clang, ARM of 32 bits": (*ZIG, "-target", "arm-linux-musleabihf"),
    "clang, PowerPC, big endian": (*ZIG, "-target", "powerpc-linux-musleabihf"),
}
TRAPS = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")


@pytest.fixture(scope="module")
def built() -> Artifact:
    return build(batch(range(110_000, 110_016)), "c", "prog")


@pytest.fixture(scope="module")
def folder(built: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built.save(tmp_path_factory.mktemp("c") / "prog.qir")


def c_text(artifact: Artifact) -> str:
    return artifact.files[f"{artifact.name}.c"].decode()


def compiled(command: Sequence[str], folder: Path) -> None:
    """Errors: a failed assertion with the compiler's words."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_equals_the_interpreter() -> None:
    assert check(range(110_000, 110_016), "c") == []


@pytest.mark.parametrize("which", COMPILERS)
def test_it_is_strict_c99(which: str, folder: Path, tmp_path: Path) -> None:
    compiler = COMPILERS[which]
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]}: not found")
    compiled((*compiler, *STRICT, "-c", "prog.c", "-o", str(tmp_path / "prog.o")), folder)


def test_the_three_files_alone_do_all_without_undefined_behaviour(
    folder: Path, tmp_path: Path
) -> None:
    program = tmp_path / "selftest"
    sources = ("prog_test.c", "prog.c", "prog_border.c")
    compiled(("gcc", "-O2", "-ffp-contract=off", *TRAPS, *sources, "-o", str(program)), folder)
    done = subprocess.run([program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and " 0 wrong" in done.stdout


def test_its_text_holds_no_float(built: Artifact) -> None:
    assert floats(c_text(built)) == []
    assert "tvm" not in c_text(built).lower()
    found = floats("a = 1.5f + .5 - 2.; double b = 1e-3; /* float 0.5 */ c = 0x1p3 + 0x1E5 + x3.e;")
    assert found == [".5", "0x1p3", "1.5f", "1e-3", "2.", "double"]
    with pytest.raises(LowerError, match=re.escape("net.c: floats in the C text, none is allowed")):
        check_integer_only("net.c", "float x;")


def test_it_reads_well(built: Artifact) -> None:
    text = c_text(built)
    assert max(map(len, text.splitlines())) <= 140
    heads = re.findall(r"^(.*)\nstatic void (\w+\d)\(", text, re.MULTILINE)
    assert {name for _, name in heads} >= {s.symbol for s in built.program.steps}
    assert all(above.endswith("*/") for above, _ in heads)
    assert text.count("static void plain") == len(
        [code for code in built.program.codes.values() if type(code).__name__ == "PlainCode"]
    )


def test_the_same_graph_gives_the_same_bytes() -> None:
    first, second = (build(residual_network(), "c") for _ in range(2))
    assert first.files == second.files
    assert first.manifest["target"]["features"] == []


def test_names_cannot_end_a_comment() -> None:
    assert comment("a */ b ??/ c \\ d") == "/* a * / b ? ?/ c / d */"


def test_kernels_for_vectors_are_refused_by_name() -> None:
    program = lower(residual_network(), find("x86-avx2"), "net")
    with pytest.raises(LowerError, match=r"\w+\d+: .* has no portable C"):
        compile_kernels(program.codes, find("c"))


def test_a_function_that_portable_c_lacks_is_named() -> None:
    program = lower(residual_network(), find("portable"), "net")
    text = "static void f(void) { max_u16(1, 2); }\n"
    with pytest.raises(LowerError, match=r"max_u16 not in portable\.c, all are needed"):
        kernels(program, dict.fromkeys(program.codes, text))
