"""The machine this program runs on, as a target."""

from __future__ import annotations

import platform
import struct
import sys
import sysconfig
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from pathlib import Path

from qir.backends.targets import arm, c, x86
from qir.ir.target import Target

ALIASES = ("native", "host")
ABOUT = "the CPU of this machine"


def host() -> Target:
    """A target for LLVM with all features of this CPU that kernels use, otherwise portable C.

    A CPU that does not say what it has gets what every CPU of its kind has.
    """
    target = _of_llvm(platform.machine(), cpu_flags()) if sys.platform == "linux" else None
    return replace(target or c.portable(), name="cpu", aliases=ALIASES, about=ABOUT, emulator=())


def _of_llvm(machine: str, flags: Collection[str]) -> Target | None:
    is_64_bit = struct.calcsize("P") == 8
    if machine == "x86_64" and is_64_bit:
        return x86.x86("cpu", x86.level_features(flags), ABOUT)
    if machine == "aarch64" and is_64_bit:
        return _richest((arm.BASELINE, arm.DOTPROD, arm.I8MM), flags)
    is_hard_float = "gnueabihf" in str(sysconfig.get_config_var("HOST_GNU_TYPE"))
    if machine == arm.ARMV7.machine and is_hard_float:
        return _richest((arm.ARMV7,), flags)
    return None


def _richest(targets: tuple[Target, ...], flags: Collection[str]) -> Target | None:
    """The last that this CPU can run."""
    usable = [target for target in targets if set(target.needs) <= set(flags)]
    return usable[-1] if usable else None


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU features the system reports; none where there is no /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    values = (line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(values, "").split())
