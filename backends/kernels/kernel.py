"""What a kernel is to all above it: code to build, constants, units of work, arguments.

A built kernel is `void symbol(pointers..., int32 begin, int32 end)`: the pointers in the order of
`arguments`, each to the first element of its tensor ("weights" and "constants" to the blocks of
these names), then the units of work [begin, end) of [0, `units`) to do. Units may be done in any
order and by several threads: two of them never write different values to one element.

Needs: both blocks at a multiple of the target's alignment; 128 readable bytes (of any content)
after the last element of every input; outputs overlap neither inputs nor each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qir.backends.kernels.dots import AVX512
from qir.backends.kernels.plane import check_indices

WEIGHTS, CONSTANTS = "weights", "constants"
RESULTS = ("y", "row_scale", "wide")
"""Arguments that kernels write: what most give; scales of rows and their elements beside codes."""


class Code(Protocol):
    """Everything the machine code depends on; frozen and hashable: equal ones are built once."""

    @property
    def units(self) -> int: ...

    @property
    def arguments(self) -> tuple[str, ...]: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Kernel:
    """`code`: what to build. `weights`, `constants`: what it reads; empty for what is no argument.

    Packed weights are apart from all that belongs to one use of them (multipliers, biases, tables),
    so that kernels which share a matrix share its bytes.
    """

    code: Code
    constants: bytes = b""
    weights: bytes = b""

    def __post_init__(self) -> None:
        check_indices(f"{type(self.code).__name__}: units of work", self.code.units)

    @property
    def units(self) -> int:
        return self.code.units

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.code.arguments

    @property
    def blocks(self) -> dict[str, bytes]:
        """The blocks of the arguments that are no tensors."""
        return {WEIGHTS: self.weights, CONSTANTS: self.constants}


def vector_bytes(features: frozenset[str]) -> int:
    """The widest vectors of a machine with these LLVM features; 0: plain loops, for any machine."""
    if features >= AVX512:
        return 64
    if "avx2" in features:
        return 32
    return 16 if features & {"sse4.1", "neon"} else 0


def in_pairs(features: frozenset[str]) -> bool:
    """Whether vectors of a machine multiply every second lane into 64 bits: x86."""
    return "sse4.1" in features
