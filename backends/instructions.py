"""What each machine's instructions do, as far as a proof of integer-only code needs it. Data only.

Patterns are matched against the whole line of an instruction as llvm-objdump prints it, operands
separated by a blank. An instruction belongs to the first of these kinds that matches:

    dots      multiply and add several products: what contractions are built from
    carriers  named after floats, but move, load, store or select bits as they are
    floats    compute with floats, compare them or convert from or to them
    integers  all others that are known to compute with integers only

One that belongs to none is unknown, which is a fault: the list is a proof, not a search.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dot:
    """Lines that match `pattern` multiply `macs` pairs of bytes and add the products.

    `macs` is 0 where the vector length decides.
    """

    name: str
    pattern: str
    macs: int


@dataclass(frozen=True)
class InstructionSet:
    """Patterns for one architecture; see the module."""

    dots: tuple[Dot, ...]


X86 = InstructionSet(
    dots=(
        Dot("vpdpbusd", r"vpdpbusds? .*%zmm", 64),
        Dot("vpdpbusd", r"(\{\w+\} )?vpdpbusds? .*%ymm", 32),
        Dot("vpdpbusd", r"(\{\w+\} )?vpdpbusds? .*%xmm", 16),
        Dot("vpmaddubsw", r"vpmaddubsw .*%zmm", 64),
        Dot("vpmaddubsw", r"vpmaddubsw .*%ymm", 32),
        Dot("vpmaddubsw", r"v?pmaddubsw .*%xmm", 16),
        Dot("vpmaddwd", r"vpmaddwd .*%zmm", 32),
        Dot("vpmaddwd", r"vpmaddwd .*%ymm", 16),
        Dot("vpmaddwd", r"v?pmaddwd .*%xmm", 8),
    ),
)

AARCH64 = InstructionSet(
    dots=(
        Dot("mmla", r"(s|u|us)mmla v\d+\.4s", 32),
        Dot("dot", r"(s|u|us|su)dot v\d+\.4s", 16),
        Dot("dot", r"(s|u|us|su)dot v\d+\.2s", 8),
        Dot("mull.8h", r"[su](mull|mlal)2? v\d+\.8h", 8),
        Dot("mlal.4s", r"[su]mlal2? v\d+\.4s", 4),
        Dot("mla.4s", r"mla v\d+\.4s", 4),
    ),
)

ARM = InstructionSet(
    dots=(
        Dot("vmladava", r"vrml\w+|vmladava?x?\.[su]8", 16),
        Dot("vmladava", r"vmladava?x?\.[su]16|vmlava?\.[su]16", 8),
        Dot("vmull.8", r"vm(ull|lal)\.[su]8", 8),
        Dot("vmlal.16", r"vmlal\.[su]16", 4),
        Dot("vmla.i32", r"vmla\.i32 q", 4),
        Dot("smlad", r"sml[as]ldx?|smladx?|smuadx?", 2),
        Dot("smla", r"smla[bt][bt]|mla", 1),
    ),
)

HEXAGON = InstructionSet(
    dots=(
        Dot("vrmpy", r".*[+]?= vrmpy\(v\d+:\d+", 256),
        Dot("vrmpy", r".*\bvrmpy\(", 128),
        Dot("vdmpy", r".*\bvdmpy\(", 64),
        Dot("vmpa", r".*\bvmpa\(", 64),
        Dot("vmpybus", r".*\.h \+= vmpy\(", 128),
    ),
)

RISCV = InstructionSet(
    dots=(
        Dot("vwmacc", r"vwmacc(u|su|us)?\.v[vx]", 0),
        Dot("vmacc", r"vm(acc|add)\.v[vx]", 0),
    ),
)

SETS = {
    "x86_64": X86,
    "aarch64": AARCH64,
    "arm": ARM,
    "thumb": ARM,
    "hexagon": HEXAGON,
    "riscv64": RISCV,
}
"""By a target's architecture."""
