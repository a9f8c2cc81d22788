"""C toolchains, in the order they are tried."""

from __future__ import annotations

from qir.ir.target import PYTHON, Toolchain

HOST = tuple(
    Toolchain(name, (name,), ("ar",), "a C compiler: apt-get install gcc")
    for name in ("cc", "gcc", "clang")
)
"""Compilers that make code for the machine they run on."""


def zig(triple: str) -> Toolchain:
    """The cross compiler that comes by pip alone, for `triple` in zig's spelling."""
    run = (PYTHON, "-m", "ziglang")
    return Toolchain(
        "ziglang", (*run, "cc"), (*run, "ar"), "pip install ziglang", ("-target", triple)
    )
