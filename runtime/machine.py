"""Features of this machine, compared with those an artifact needs."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

from .errors import MachineError
from .format import EMULATORS, Manifest, show


def cpu_flags() -> frozenset[str]:
    """The CPU features the system reports."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    heads = ("flags", "Features", "isa")
    return next(
        (frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith(heads)),
        frozenset(),
    )


def check_machine(manifest: Manifest) -> None:
    """Errors: MachineError that says what the artifact needs and this machine lacks."""
    target, where = manifest["target"], f"artifact {manifest['name']}"
    instead = "compile for target cpu on this machine"
    emulator = tuple(manifest["emulator"])
    if manifest["runner"] and emulator in EMULATORS:
        instead = f"qir.load(..., emulate=True) or qir run --emulate runs it under {emulator[0]}"
    here = (platform.machine(), sys.platform)
    if (target["machine"], target["system"]) != here:
        home = f" on {word(target['system'])}" if target["system"] != "none" else ""
        raise MachineError(
            f"{where}: made for {word(target['machine'])}{home}, this is {here[0]} on {here[1]}",
            instead,
        )
    bits = ctypes.sizeof(ctypes.c_void_p) * 8
    if target["pointer_bits"] != bits:
        raise MachineError(
            f"{where}: made for {target['pointer_bits']}-bit pointers, this process has {bits}"
        )
    flags = cpu_flags()
    if missing := [word(feature) for feature in target["needs"] if feature not in flags]:
        raise MachineError(
            f"{where}: made for CPUs with {', '.join(missing)}, which this one lacks",
            "compile for target cpu on this machine, or for one that needs less than"
            f" {word(target['name'])}",
        )


def word(text: str) -> str:
    """A name of the manifest, printable in an error."""
    return text if text.isprintable() and len(text) <= 40 else show(text)
