"""Portable C99: one file for any compiler, and a library of it for the machine this runs on."""

from __future__ import annotations

import platform
import struct
import sys

from qir.backends.targets.toolchains import HOST, zig
from qir.ir.target import Target

ZIG_TRIPLES = {
    "arm64": "aarch64-linux",
    "armv6l": "arm-linux-gnueabihf",
    "armv7l": "arm-linux-gnueabihf",
    "armv8l": "arm-linux-gnueabihf",
    "i686": "x86-linux",
    "ppc64le": "powerpc64le-linux",
}
"""Zig's names of machines that Linux calls otherwise."""


def portable() -> Target:
    """C for any machine; its library is for this one."""
    machine = platform.machine()
    return Target(
        name="c",
        triple="c",
        cpu="any",
        features=(),
        needs=(),
        machine=machine,
        system=sys.platform,
        toolchains=(
            *HOST,
            zig(ZIG_TRIPLES.get(machine, f"{machine}-{sys.platform}"), "-mcpu=baseline"),
        ),
        aliases=("c99", "portable"),
        pointer_bits=8 * struct.calcsize("P"),
        about="portable C99 in plain loops, for any compiler and machine",
        generator="c",
    )
