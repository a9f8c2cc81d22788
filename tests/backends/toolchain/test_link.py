"""Linking: the choice of the compiler, its options, and the error without one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from qir.backends import find
from qir.backends.toolchain import elf
from qir.backends.toolchain import link as linking
from qir.backends.toolchain.link import link, toolchain
from qir.ir.errors import LowerError

CPU = find("x86-64")
SOURCE = {"a.h": "int a_run(void);\n", "a.c": '#include "a.h"\nint a_run(void) { return 7; }\n'}


def test_without_a_compiler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    none = replace(CPU, toolchains=tuple(t for t in CPU.toolchains if t.name != "ziglang"))
    with pytest.raises(LowerError) as e:
        toolchain(none)
    assert str(e.value).splitlines() == [
        "target x86-64: no C compiler found, one of these is needed",
        "  cc: not found; a C compiler: apt-get install gcc",
        "  gcc: not found; a C compiler: apt-get install gcc",
        "  clang: not found; a C compiler: apt-get install gcc",
        "  x86_64-linux-gnu-gcc: not found; apt-get install gcc-x86-64-linux-gnu",
    ]


def test_ziglang_serves_where_no_compiler_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert toolchain(CPU).name == "ziglang"


def test_cc_of_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc -pipe")
    assert toolchain(CPU).compiler == ("cc", "-pipe")
    assert elf.undefined(link(CPU, "a", SOURCE, {}, ["a_run"], {}).library) == ()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "brokencc"
    broken.write_text("#!/bin/sh\necho out of cheese >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(
        LowerError, match=r"compile a\.c: .*brokencc ended with 3, 0 is needed\n  out of cheese"
    ):
        link(CPU, "a", SOURCE, {}, ["a_run"], {})


def test_a_warning_is_no_error_to_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """But it is one to the tests."""
    code = "int a_run(void);\nint a_run(void) { int unused = 3; return 7; }\n"
    with pytest.raises(LowerError, match=r"compile a\.c: cc ended with 1, 0 is needed"):
        link(CPU, "a", {"a.c": code}, {}, ["a_run"], {})
    monkeypatch.setattr(linking, "WARNINGS", ())
    assert link(CPU, "a", {"a.c": code}, {}, ["a_run"], {}).library


def test_only_what_is_exported_is_seen() -> None:
    more = {**SOURCE, "b.c": "int hidden(void);\nint hidden(void) { return 1; }\n"}
    shown = {s.name for s in elf.symbols(link(CPU, "a", more, {}, ["a_run"], {}).library)}
    assert "a_run" in shown and "hidden" not in shown


def test_a_library_that_needs_more_than_libc_is_refused() -> None:
    code = "double cos(double);\ndouble a_run(double);\ndouble a_run(double x) { return cos(x); }\n"
    with pytest.raises(LowerError, match="library a: needs symbols that libc does not have\n  cos"):
        link(CPU, "a", {"a.c": code}, {}, ["a_run"], {})


@pytest.mark.parametrize("content", [b"", b"MZ not an ELF", b"\x7fELF\x02\x01" + bytes(40)])
def test_what_is_no_elf_file_is_refused(content: bytes) -> None:
    with pytest.raises(LowerError, match=r"object: (starts with|its tables are cut off)"):
        elf.symbols(content)


def test_a_compiler_that_never_ends_is_ended_with_those_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for a compiler of their own, as zig does, leave none behind."""
    endless, started = tmp_path / "endlesscc", tmp_path / "started"
    endless.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {started}\nwait\n")
    endless.chmod(0o755)
    monkeypatch.setenv("CC", str(endless))
    monkeypatch.setattr(linking, "SECONDS", 1)
    with pytest.raises(LowerError, match=r"compile a\.c: .*endlesscc ran over 1 s, an end is need"):
        link(CPU, "a", SOURCE, {}, ["a_run"], {})
    state = Path(f"/proc/{started.read_text().strip()}/stat")
    for _ in range(100):  # the signal is sent, and reaches it when its core has time
        if not state.exists() or state.read_text().split()[2] in "ZX":
            return
        time.sleep(0.1)
    pytest.fail("what the compiler started lives on")
