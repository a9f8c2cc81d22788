"""Footprint: the memory that a program takes on its machine, in exact bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from qir.backends.lowering.program import Program, size_bytes
from qir.backends.toolchain import elf


@dataclass(frozen=True)
class Footprint:
    """Bytes linked when only NAME_run is called.

    `text`, `rodata`, `data`, `bss` are the sections of the core's object; alignment between them,
    the stack and functions of the C library come on top. Inputs and outputs are the caller's.
    """

    text: int
    rodata: int
    data: int
    bss: int
    weights: int
    workspace: int
    inputs: int
    outputs: int

    @staticmethod
    def of(program: Program, core: bytes) -> Footprint:
        """Of a program and the object with its entry and kernels."""
        return Footprint(
            **asdict(elf.loaded(core)),
            weights=len(program.weights),
            workspace=program.workspace_bytes,
            inputs=sum(map(size_bytes, program.inputs)),
            outputs=sum(map(size_bytes, program.outputs)),
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
        return self.static + self.workspace

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
