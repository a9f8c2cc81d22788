"""Whether this machine can build for a target, run it, or emulate it."""

from __future__ import annotations

import platform
import shutil
import sys

from qir.backends.toolchain.link import candidates_of, is_there
from qir.ir.target import Target
from qir.runtime.emulated import package


def runs(target: Target, flags: frozenset[str]) -> str:
    """Whether this machine is the target, or has its emulator; otherwise what is missing."""
    if (target.machine, target.system) == (platform.machine(), sys.platform):
        missing = [need for need in target.needs if need not in flags]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"no: {missing[0]}{more} missing" if missing else "yes"
    if not target.emulator:
        return f"no: needs {target.machine}"
    program = target.emulator[0]
    is_there = shutil.which(program) is not None
    return (
        f"under {program}"
        if is_there
        else f"no: {program} missing, apt-get install {package(program)}"
    )


def builds(target: Target) -> str:
    """The toolchain that builds for the target, or how to install one."""
    for toolchain in candidates_of(target):
        if is_there(toolchain.compiler):
            return f"yes: {toolchain.name}"
    installs = dict.fromkeys(toolchain.install for toolchain in candidates_of(target))
    return f"no: {' or '.join(installs)}"
