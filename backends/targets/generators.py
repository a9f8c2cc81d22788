"""Generators: what turns the TIR of kernels into code, one for each kind of code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qir.ir.target import Target


@dataclass(frozen=True)
class Generator:
    """`kind`: TVM's name of it. `is_text`: kernels are C functions inside NAME.c, static and under
    short names; else they are objects, and the linker knows them by names of their own.
    """

    kind: str
    is_text: bool

    def machine(self, target: Target) -> dict[str, object]:
        """The target as TVM describes machines."""
        if self.is_text:
            return {"kind": self.kind}
        described: dict[str, object] = {
            "kind": self.kind,
            "mtriple": target.triple,
            "mcpu": target.cpu,
            "mattr": [f"+{f}" for f in target.features],
        }
        return described | dict(target.options)


GENERATORS: Mapping[str, Generator] = {
    "llvm": Generator("llvm", is_text=False),
    "c": Generator("c", is_text=True),
}
"""By the name that targets have for them. A new kind is a line here, and one in tvm/worker.py."""


def generator_of(target: Target) -> Generator:
    return GENERATORS[target.generator]


def has_threads(target: Target) -> bool:
    """Whether programs are compiled with a clock and a pool of threads; portable C may be."""
    return target.is_hosted and not generator_of(target).is_text
