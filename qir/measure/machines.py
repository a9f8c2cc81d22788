"""What this machine can do with each target: build for it, run it, emulate it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterable

from rich.table import Table

from qir.backends.toolchain.link import is_there
from qir.ir.target import Target
from qir.report.terminal import table
from qir.runtime.emulated import package
from qir.runtime.machine import cpu_flags

WRAPPED = ("machine", "builds here", "runs here")


def machines(targets: Iterable[Target]) -> Table:
    """A row for each target: its names, what it is, and what this machine can do with it."""
    found = table("Targets", "name", "also", "machine", "builds here", "runs here")
    for column in found.columns:
        if column.header in WRAPPED:
            column.no_wrap, column.overflow = False, "fold"
    flags = cpu_flags()
    for target in targets:
        also = ", ".join(target.aliases)
        found.add_row(target.name, also, target.about, builds(target), runs(target, flags))
    return found


def runs(target: Target, flags: frozenset[str]) -> str:
    """Whether this machine is one, or has an emulator of one; else what is missing."""
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
    """The toolchain that would be used, or how to get one."""
    for toolchain in target.toolchains:
        if is_there(toolchain.compiler):
            return f"yes: {toolchain.name}"
    wanted = dict.fromkeys(toolchain.install for toolchain in target.toolchains)
    return f"no: {' or '.join(wanted)}"
