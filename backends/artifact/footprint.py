"""Footprint: the memory that a program takes on its machine, in exact bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from qir.backends.lowering.program import LoweredProgram, size_bytes
from qir.backends.toolchain import elf


@dataclass(frozen=True)
class Footprint:
    """Bytes linked when only NAME_run is called.

    `text`, `rodata`, `data`, `bss` are the sections of the core's object; alignment between them,
    the stack and functions of the C library come on top. Inputs and outputs are the caller's, of
    several entries those that take most.
    """

    text: int
    rodata: int
    data: int
    bss: int
    weights: int
    workspace: int
    inputs: int
    outputs: int
    state: int = 0

    @staticmethod
    def of(entries: Sequence[LoweredProgram], core: bytes) -> Footprint:
        """Of a program for each entry, and the object with these and their kernels."""
        return Footprint(
            **asdict(elf.loaded_sizes(core)),
            weights=len(entries[0].weights),
            workspace=entries[0].workspace_bytes,
            inputs=max(sum(map(size_bytes, p.inputs)) for p in entries),
            outputs=max(sum(map(size_bytes, p.outputs)) for p in entries),
            state=entries[0].state_bytes,
        )

    @property
    def code(self) -> int:
        """Code, constants, and initial values of variables."""
        return self.text + self.rodata + self.data

    @property
    def flash(self) -> int:
        return self.code + self.weights

    @property
    def static(self) -> int:
        return self.data + self.bss

    @property
    def ram(self) -> int:
        return self.static + self.workspace + self.state

    def entry(self) -> dict[str, int]:
        """As the manifest has it."""
        return {
            "flash_bytes": self.flash,
            "ram_bytes": self.ram,
            "input_bytes": self.inputs,
            "output_bytes": self.outputs,
            "text_bytes": self.text,
            "rodata_bytes": self.rodata,
            "data_bytes": self.data,
            "bss_bytes": self.bss,
        }
