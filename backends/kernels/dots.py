"""The dot instructions a contraction can be blocked around, as data; which a machine has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scheme(Enum):
    """How an epilogue multiplies 32 by 31 bits; see `qir.backends.kernels.epilogue`."""

    PAIRS = "pairs"  # every second lane at once, in 64-bit lanes: x86
    LANES = "lanes"  # each lane widened to 64 bits: NEON, RISC-V, scalar machines
    HALVES = "halves"  # by the multiplier's 16-bit halves, in 32-bit lanes: Hexagon


@dataclass(frozen=True)
class Dot:
    """An instruction (or short sequence) that adds `depth` products to each int32 lane.

    `needs`: traits of a target. `vector_bytes`: of one vector of accumulators. `registers`: vector
    registers of the machine; `temporaries`: what a step keeps beside accumulators and weights.
    `forms`: weight vectors per step and accumulator. `latency`, `rate`: cycles until an accumulator
    can be used again, and steps a cycle, for the choice of tiles; `spread`: cycles to widen one
    word of X. `pair_sums`: two products are added in int16, which must be proven to fit. `fuses`:
    the feature that multiplies 52 bits and adds. `x`: the dtype it reads X as, None for either.
    `weight_item`: bytes of a weight as packed. `rows`: pixels that share accumulators. `together`:
    steps whose X is loaded at once. `block`: bytes within which bytes and words are interleaved.
    `is_sparse`: it does depthwise convolutions too. `aligned`: words of X should be aligned.
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
    x: str | None = "uint8"
    weight_item: int = 1
    rows: int = 1
    together: int = 1
    block: int = 16
    scheme: Scheme = Scheme.PAIRS
    is_sparse: bool = True
    aligned: bool = False

    @property
    def lanes(self) -> int:
        return self.vector_bytes // 4

    @property
    def weight_bytes(self) -> int:
        """Of one vector of weights."""
        return self.lanes * self.depth * self.weight_item // self.forms


def _neon(name: str, needs: str, rate: float, **rest: object) -> Dot:
    """One of NEON's, on vectors of 16 bytes."""
    registers = 32 if "aarch64" in needs else 16
    shared = {"forms": 1, "latency": 4, "x": "int8", "scheme": Scheme.LANES, "temporaries": 4}
    return Dot(name, frozenset(needs.split()), 16, registers, rate=rate, **{**shared, **rest})  # type: ignore[arg-type]


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})

VNNI512 = Dot("vnni512", _AVX512 | {"avx512vnni"}, 64, 32, 1, 1, 5, 2.0, fuses="avx512ifma")
VNNI256 = Dot("vnni256", frozenset({"avx2", "avxvnni"}), 32, 16, 1, 1, 5, 2.0)
AVX2_PAIRS = Dot("avx2_pairs", frozenset({"avx2"}), 32, 16, 3, 1, 1, 0.66, pair_sums=True)
AVX2_WIDE = Dot("avx2_wide", frozenset({"avx2"}), 32, 16, 4, 2, 1, 0.75, spread=0.67, weight_item=2)
SMMLA = _neon("usmmla", "aarch64 i8mm", 2.0, forms=2, x="uint8", depth=8, rows=2, is_sparse=False)
USDOT = _neon("usdot", "aarch64 i8mm", 2.0, x="uint8", together=4)
SDOT = _neon("sdot", "aarch64 dotprod", 2.0, together=4)
NEON_PAIRS = _neon("neon_pairs", "aarch64 neon", 0.5, pair_sums=True, temporaries=6, together=4)
NEON_WIDE = _neon("neon_wide", "aarch64 neon", 0.33, temporaries=6, together=4)
ARMV7_PAIRS = _neon("armv7_pairs", "arm neon", 0.4, pair_sums=True, temporaries=4)
ARMV7_WIDE = _neon("armv7_wide", "arm neon", 0.3, temporaries=4)
SMLAD = Dot(
    "smlad", frozenset({"thumb", "dsp"}), 4, 13, 6, 1, 1, 0.3,
    x=None, scheme=Scheme.LANES, is_sparse=False,
)  # fmt: skip
VWMACC = Dot(
    "vwmacc", frozenset({"riscv64", "v"}), 32, 16, 3, 1, 4, 1.0,
    depth=1, x=None, scheme=Scheme.LANES, is_sparse=False,
)  # fmt: skip
VRMPY = Dot(
    "vrmpy", frozenset({"hexagon", "hvx-length128b"}), 128, 32, 3, 1, 2, 2.0,
    block=128, scheme=Scheme.HALVES, aligned=True,
)  # fmt: skip
PLAIN = Dot("plain", frozenset(), 4, 16, 1, 1, 1, 1.0, depth=1)

DOTS = {
    dot.name: dot
    for dot in (
        VNNI512, VNNI256, AVX2_PAIRS, AVX2_WIDE,
        SMMLA, USDOT, SDOT, NEON_PAIRS, NEON_WIDE, ARMV7_PAIRS, ARMV7_WIDE,
        SMLAD, VWMACC, VRMPY, PLAIN,
    )
}  # fmt: skip
"""Best first."""


def usable(traits: frozenset[str]) -> list[Dot]:
    """The dots of a machine with these traits, best first; the last is plain loops."""
    return [dot for dot in DOTS.values() if dot.needs <= traits]
