"""x86-64 processors under Linux."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from qir.backends.targets.toolchains import HOST, gnu, zig
from qir.ir.target import Target

LINUX_NAMES = {
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "popcnt": "popcnt",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "lzcnt": "abm",
    "movbe": "movbe",
    "f16c": "f16c",
    "avxvnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni",
    "avx512vbmi": "avx512vbmi",
    "avx512ifma": "avx512ifma",
    "gfni": "gfni",
}
"""LLVM's name of each feature -> the name in /proc/cpuinfo."""

_V3 = (
    "avx",
    "avx2",
    "bmi",
    "bmi2",
    "f16c",
    "fma",
    "lzcnt",
    "movbe",
    "popcnt",
    "sse4.1",
    "sse4.2",
    "ssse3",
)
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")


def x86(name: str, features: tuple[str, ...], about: str, aliases: tuple[str, ...] = ()) -> Target:
    """An x86-64 Linux machine with these LLVM features (beside those of all x86-64 machines)."""
    level = 4 if set(_V4) <= set(features) else 3 if set(_V3) <= set(features) else 1
    return Target(
        name=name,
        triple="x86_64-linux-gnu",
        cpu="x86-64" if level == 1 else f"x86-64-v{level}",
        features=tuple(sorted(features)),
        needs=tuple(sorted(LINUX_NAMES[f] for f in features)),
        machine="x86_64",
        system="linux",
        toolchains=(
            *HOST,
            zig("x86_64-linux-gnu.2.17"),
            gnu("x86_64-linux-gnu", "gcc-x86-64-linux-gnu"),
        ),
        aliases=aliases,
        c_flags=tuple(f"-m{f}" for f in (_V3 if level >= 3 else ())),
        about=about,
    )


def level_features(flags: Collection[str]) -> tuple[str, ...]:
    """LLVM's names of the features a CPU reports; a level counts only when all of it is there."""
    features = {name for name, flag in LINUX_NAMES.items() if flag in flags}
    if not set(_V3) <= features:
        return ()
    if not set(_V4) <= features:
        features -= {f for f in features if f.startswith("avx512")}
    return tuple(sorted(features))


BASELINE = x86("x86-64", (), "any x86-64 machine", ("x86_64",))
AVX2 = x86("x86-avx2", _V3, "x86-64 with AVX2 (Haswell, Zen and newer)")
AVX_VNNI = x86("x86-avxvnni", (*_V3, "avxvnni"), "x86-64 with AVX-VNNI (Alder Lake and newer)")
AVX512_VNNI = x86(
    "x86-avx512vnni",
    (*_V4, "avx512vnni"),
    "x86-64 with AVX512-VNNI (Cascade Lake, Zen 4 and newer)",
)
ANY = replace(
    BASELINE,
    name="x86",
    aliases=(),
    about="any x86-64 machine; code for AVX2, AVX-VNNI and AVX512-VNNI, chosen when it runs",
    variants=(BASELINE, AVX2, AVX_VNNI, AVX512_VNNI),
)
