"""Portable C99: one file for any compiler, and a library of it for the machine this runs on."""

from __future__ import annotations

import platform
import struct
import sys

from qir.backends.targets.toolchains import HOST, zig
from qir.ir.target import Target

C = Target(
    name="c",
    triple="c",
    cpu="any",
    features=(),
    needs=(),
    machine=platform.machine(),
    system=sys.platform,
    vector_bits=0,
    toolchains=(*HOST, zig(f"{platform.machine()}-{sys.platform}", "-mcpu=baseline")),
    aliases=("c99", "portable"),
    pointer_bits=8 * struct.calcsize("P"),
    about="portable C99 in plain loops, for any compiler and machine",
    generator="c",
)
