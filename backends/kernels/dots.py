"""The dot instructions a contraction can be blocked around, as data; which of them a CPU has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dot:
    """An instruction (or short sequence) that adds `depth` products u8 x i8 to each int32 lane.

    `needs`: LLVM feature names. `registers`: vector registers of the machine; `temporaries`: what a
    step keeps beside accumulators and weights. `forms`: weight vectors per step and accumulator.
    `latency`, `rate`: cycles until an accumulator can be used again, and steps a cycle, for the
    choice of tiles; `spread`: cycles to widen one word of X. `pair_sums`: two products are added in
    int16, which must be proven to fit. `fuses`: the feature that multiplies 52 bits and adds.
    """

    name: str
    needs: frozenset[str]
    vector_bytes: int
    registers: int
    temporaries: int
    forms: int
    latency: int
    rate: float
    pair_sums: bool = False
    spread: float = 0.0
    fuses: str | None = None
    depth: int = 4

    @property
    def lanes(self) -> int:
        return self.vector_bytes // 4


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})

VNNI512 = Dot("vnni512", _AVX512 | {"avx512vnni"}, 64, 32, 1, 1, 5, 2.0, fuses="avx512ifma")
VNNI256 = Dot("vnni256", frozenset({"avx2", "avxvnni"}), 32, 16, 1, 1, 5, 2.0)
AVX2_PAIRS = Dot("avx2_pairs", frozenset({"avx2"}), 32, 16, 3, 1, 1, 0.66, pair_sums=True)
AVX2_WIDE = Dot("avx2_wide", frozenset({"avx2"}), 32, 16, 4, 2, 1, 0.75, spread=0.67)
PLAIN = Dot("plain", frozenset(), 4, 16, 1, 1, 1, 1.0, depth=1)

DOTS = {dot.name: dot for dot in (VNNI512, VNNI256, AVX2_PAIRS, AVX2_WIDE, PLAIN)}
"""Best first."""


def usable(features: frozenset[str]) -> list[Dot]:
    """The dots of a CPU with these LLVM features, best first; the last is plain loops."""
    return [dot for dot in DOTS.values() if dot.needs <= features]
