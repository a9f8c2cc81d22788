"""The kernels of an artifact's programs, each compiled for its own machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from qir.backends.c.dispatch import symbol
from qir.backends.kernels.kernel import Code
from qir.backends.lowering.program import LoweredProgram
from qir.backends.targets.generators import generator_of
from qir.backends.toolchain.compile import Compiled, compile_kernels
from qir.ir.target import Target


def compiled(programs: Sequence[LoweredProgram], target: Target) -> Compiled:
    """The kernels of all the programs, each for its own machine."""
    machines: dict[Target, dict[str, Code]] = {}
    for program in programs:
        machines.setdefault(program.variant or target, {}).update(_codes(program, target))
    parts = [compile_kernels(codes, machine) for machine, codes in machines.items()]
    if len(parts) == 1:
        return parts[0]
    objects = {
        f"variant{number}_{file}": content
        for number, part in enumerate(parts)
        for file, content in part.objects.items()
    }
    checked = tuple(chain.from_iterable(part.checked for part in parts))
    return replace(parts[0], objects=objects, checked=checked)


def _codes(program: LoweredProgram, target: Target) -> Mapping[str, Code]:
    """The code of each kernel by the linker's name; static ones have short names."""
    is_text = generator_of(target).is_text
    return {s if is_text else symbol(program, s): code for s, code in program.codes.items()}
