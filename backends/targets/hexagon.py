"""Hexagon DSPs with HVX vectors of 128 bytes."""

from __future__ import annotations

from qir.backends.targets.toolchains import zig
from qir.ir.target import Target

SEPARATE = ("-mllvm", "-slot1-store-slot0-load=false")
"""No packet both stores and loads: QEMU before 8.0 loads what was there before the store when a
packet before that one skipped a conditional instruction.
"""


def hexagon(version: int, *aliases: str) -> Target:
    """Hexagon v`version`: an object, a static library and a header for the vendor's SDK."""
    return Target(
        name=f"hexagon-v{version}",
        triple="hexagon",
        cpu=f"hexagonv{version}",
        features=(f"hvxv{version}", "hvx-length128b"),
        needs=(),
        machine="hexagon",
        system="none",
        toolchains=(
            zig("hexagon-linux-musl", f"-mcpu=hexagonv{version}", "-ffreestanding", *SEPARATE),
        ),
        aliases=aliases,
        pointer_bits=32,
        is_hosted=False,
        alignment=128,
        about=f"Hexagon v{version} DSP with HVX",
        emulator=("qemu-hexagon", "-cpu", "v67"),
    )


V66, V68, V69, V73 = hexagon(66), hexagon(68, "hexagon", "dsp"), hexagon(69), hexagon(73)
