"""The target cpu is this machine, whatever machine this is."""

from __future__ import annotations

import platform
import struct
import sys
import sysconfig

import pytest

from qir.backends import find
from qir.backends.targets import TARGETS, host
from qir.backends.toolchain import link
from qir.ir.errors import LowerError

V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe popcnt sse4_1 sse4_2 ssse3"
V4 = f"{V3} avx512bw avx512cd avx512dq avx512f avx512vl"
ARM = "fp asimd evtstrm aes"
MACHINES = [
    ("x86_64", "linux", 64, f"{V4} avx512_vnni", "x86_64-linux-gnu", "avx512vnni"),
    ("x86_64", "linux", 64, f"{V3} avx_vnni", "x86_64-linux-gnu", "avxvnni"),
    ("x86_64", "linux", 64, f"{V3} avx512f avx512_vnni", "x86_64-linux-gnu", "avx2"),
    ("x86_64", "linux", 64, "", "x86_64-linux-gnu", None),
    ("x86_64", "linux", 32, V4, "c", None),
    ("aarch64", "linux", 64, ARM, "aarch64-linux-gnu", "neon"),
    ("aarch64", "linux", 64, f"{ARM} asimddp", "aarch64-linux-gnu", "dotprod"),
    ("aarch64", "linux", 64, f"{ARM} asimddp i8mm sve", "aarch64-linux-gnu", "i8mm"),
    ("aarch64", "linux", 64, f"{ARM} i8mm", "aarch64-linux-gnu", "neon"),
    ("aarch64", "linux", 64, "", "c", None),
    ("aarch64", "linux", 32, ARM, "c", None),
    ("aarch64_be", "linux", 64, ARM, "c", None),
    ("armv7l", "linux", 32, "half thumb neon vfpv4", "armv7a-linux-gnueabihf", "neon"),
    ("armv7l", "linux", 32, "half thumb vfpv3d16", "c", None),
    ("armv6l", "linux", 32, "half thumb", "c", None),
    ("riscv64", "linux", 64, "rv64imafdcv", "c", None),
    ("ppc64le", "linux", 64, "", "c", None),
    ("s390x", "linux", 64, "", "c", None),
    ("arm64", "darwin", 64, "", "c", None),
    ("x86_64", "darwin", 64, "", "c", None),
    ("amd64", "freebsd14", 64, "", "c", None),
]


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    name, system, bits, flags, triple, feature = request.param
    monkeypatch.setattr(platform, "machine", lambda: name)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(struct, "calcsize", lambda code: bits // 8)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "arm-linux-gnueabihf")
    return name, triple, feature


@pytest.mark.parametrize("machine", MACHINES, indirect=True)
def test_cpu_is_what_this_machine_runs(machine: tuple[str, str, str | None]) -> None:
    name, triple, feature = machine
    for asked in ("cpu", "native", "host"):
        target = find(asked)
        assert (target.name, target.triple, target.machine) == ("cpu", triple, name)
        assert feature is None or feature in target.features
        assert target.needs == () or set(target.needs) <= host.cpu_flags()
        assert not target.emulator


def test_soft_float_arm_gets_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "armv7l")
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"neon"}))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "arm-linux-gnueabi")
    assert find("cpu").triple == "c"


@pytest.mark.parametrize("machine", [MACHINES[7]], indirect=True)
def test_on_arm_native_compilers_serve_arm_alone(
    machine: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "is_there", lambda command: command[0] == "cc")
    monkeypatch.delenv("CC", raising=False)
    assert link.toolchain(find("cpu")).name == "cc"
    assert link.toolchain(find("aarch64")).name == "cc"
    why = (
        r"target x86-avx2: no C compiler found, one of these is needed\n"
        r"  ziglang: not found; pip install ziglang\n"
        r"  x86_64-linux-gnu-gcc: not found; apt-get install gcc-x86-64-linux-gnu"
    )
    with pytest.raises(LowerError, match=why):
        link.toolchain(find("x86-avx2"))


@pytest.mark.parametrize("machine", [m for m in MACHINES if m[1] == "darwin"], indirect=True)
def test_what_cannot_be_linked_here_says_what_can(machine: tuple[str, ...]) -> None:
    with pytest.raises(LowerError) as e:
        link.toolchain(find("cpu"))
    assert str(e.value).splitlines() == [
        "target cpu: objects of darwin cannot be linked, those of Linux or of bare metal are"
        " needed",
        "hint: compile for a machine by name, as arm or x86",
    ]
    assert link.candidates_of(find("arm"))[0].name == "ziglang"


def test_every_target_is_described_and_can_be_built_from_elsewhere() -> None:
    for make in TARGETS:
        target = make()
        assert target.about and target.toolchains
        assert target.name in ("c", "cpu") or any(not t.is_native for t in target.toolchains)
