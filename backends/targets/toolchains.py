"""C toolchains, in the order they are tried."""

from __future__ import annotations

from qir.ir.target import PYTHON, Toolchain

HOST = tuple(
    Toolchain(name, (name,), ("ar",), "a C compiler: apt-get install gcc", is_native=True)
    for name in ("cc", "gcc", "clang")
)
"""Compilers that make code for the machine they run on."""


def zig(triple: str, *flags: str) -> Toolchain:
    """The cross compiler that pip installs, for `triple` in zig's spelling."""
    run = (PYTHON, "-m", "ziglang")
    plain = ("-fno-sanitize=all", "-g0")  # zig's own defaults check at run time
    return Toolchain(
        "ziglang",
        (*run, "cc"),
        (*run, "ar"),
        "pip install ziglang",
        ("-target", triple, *flags, *plain),
    )


def gnu(prefix: str, package: str, *flags: str) -> Toolchain:
    """The system's cross compiler of GNU, `prefix`-gcc."""
    name = f"{prefix}-gcc"
    return Toolchain(name, (name,), (f"{prefix}-ar",), f"apt-get install {package}", flags)
