"""The dot instructions of contractions as data, and which of them a machine has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Scheme(Enum):
    """How an epilogue multiplies 32 by 31 bits; see `qir.backends.kernels.requantize.epilogue`."""

    PAIRS = "pairs"  # every second lane at once, in 64-bit lanes: x86
    LANES = "lanes"  # each lane widened to 64 bits: NEON, RISC-V, scalar machines
    HALVES = "halves"  # by the multiplier's 16-bit halves, in 32-bit lanes: Hexagon


@dataclass(frozen=True, kw_only=True)
class Dot:
    """An instruction (or short sequence) that adds `depth` products to each int32 lane.

    needs           traits of a target
    vector_bytes    of one vector of accumulators
    registers       vector registers of the machine
    temporaries     what a step keeps in registers beside accumulators and weights
    forms           weight vectors per step and accumulator
    latency         cycles until an accumulator can be used again
    rate            steps a cycle
    spread, fetch   cycles to load and widen one word of X; to load one vector of weights
    counts          all four are instructions, which add up; else what is slowest counts
    pair_sums       two products are added in int16, which must be proven to fit
    chains          sums of several steps can be added in int16 too, if proven to fit
    nibbles         low and high four bits of X have sums of their own, which are always chained
    fuses           the feature that multiplies 52 bits and adds
    depth           products added to each lane
    x               the dtype it reads X as, None for either
    weight_offset   added to every weight of 8 bits, as it is to fewer; taken off in the end
    rows            pixels that share accumulators
    together        steps whose X is loaded at once
    x_registers     vector registers that the loaded X of one pixel takes until it is used up
    most_places     pixels of a tile, at most
    block           bytes within which bytes and words are interleaved
    scheme          of its epilogue
    is_sparse       it does depthwise convolutions too
    aligned         words of X should be aligned
    widens          weights are made int16, once for all pixels that share them
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
    chains: bool = False
    nibbles: bool = False
    spread: float = 0.0
    fuses: str | None = None
    depth: int = 4
    x: str | None = "uint8"
    weight_offset: int = 0
    rows: int = 1
    together: int = 1
    x_registers: int = 0
    most_places: int = 28
    block: int = 16
    scheme: Scheme = Scheme.PAIRS
    is_sparse: bool = True
    aligned: bool = False
    widens: bool = False
    counts: bool = False
    fetch: float = 0.5

    @property
    def lanes(self) -> int:
        return self.vector_bytes // 4

    @property
    def operands(self) -> int:
        """Vectors of weights that one step takes."""
        return self.forms * (2 if self.widens else 1)

    @property
    def sums(self) -> int:
        """Chained sums for each accumulator."""
        return 2 if self.nibbles else 1

    @property
    def weight_bytes(self) -> int:
        """Of one vector of weights."""
        return self.lanes * self.depth // self.forms


def _neon(name: str, needs: str, rate: float, **rest: object) -> Dot:
    """One of NEON's, on vectors of 16 bytes; the rate is one over its instructions."""
    shared = {"vector_bytes": 16, "registers": 32 if "aarch64" in needs else 16, "temporaries": 2,
              "forms": 1, "latency": 1, "x": "int8", "scheme": Scheme.LANES, "counts": True,
              "spread": 0.5, "x_registers": 1}  # fmt: skip
    return Dot(name=name, needs=frozenset(needs.split()), rate=rate, **{**shared, **rest})  # type: ignore[arg-type]


AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
HVX = frozenset({"hexagon", "hvx-length128b"})
"""Traits of machines with these vectors."""

VNNI512 = Dot(
    name="vnni512", needs=AVX512 | {"avx512vnni"}, vector_bytes=64, registers=32, temporaries=1,
    forms=1, latency=5, rate=2.0, fuses="avx512ifma",
)  # fmt: skip
VNNI256 = Dot(
    name="vnni256", needs=frozenset({"avx2", "avxvnni"}), vector_bytes=32, registers=16,
    temporaries=1, forms=1, latency=5, rate=2.0,
)  # fmt: skip
AVX2_PAIRS = Dot(
    name="avx2_pairs", needs=frozenset({"avx2"}), vector_bytes=32, registers=16, temporaries=3,
    forms=1, latency=1, rate=0.66, pair_sums=True, chains=True,
)  # fmt: skip
AVX2_NIBBLES = replace(AVX2_PAIRS, name="avx2_nibbles", nibbles=True, is_sparse=False, spread=0.75)
AVX2_WIDE = Dot(
    name="avx2_wide", needs=frozenset({"avx2"}), vector_bytes=32, registers=16, temporaries=4,
    forms=1, latency=1, rate=0.75, spread=0.67, widens=True,
)  # fmt: skip
USMMLA = _neon(
    "usmmla", "aarch64 i8mm", 1.0,
    forms=2, x="uint8", depth=8, rows=2, together=2, spread=1.0, is_sparse=False,
)  # fmt: skip
USDOT = _neon("usdot", "aarch64 i8mm", 1.0, x="uint8", together=4, spread=0.25)
SDOT = _neon("sdot", "aarch64 dotprod", 1.0, together=4)
NEON_PAIRS = _neon("neon_pairs", "aarch64 neon", 0.25, pair_sums=True, temporaries=4, together=4)
NEON_WIDE = _neon("neon_wide", "aarch64 neon", 0.167, temporaries=4, together=4)
ARMV7_PAIRS = _neon(
    "armv7_pairs", "arm neon", 0.2, pair_sums=True, temporaries=4, x_registers=0, spread=2.0
)
ARMV7_WIDE = _neon("armv7_wide", "arm neon", 0.14, temporaries=4, x_registers=0, spread=2.0)
VMLADAVA = Dot(
    name="vmladava", needs=frozenset({"thumb", "mve"}), vector_bytes=4, registers=8, temporaries=1,
    forms=1, latency=1, rate=1.0, depth=16, x="int8", scheme=Scheme.LANES, is_sparse=False,
    counts=True, spread=2.0, fetch=1.0,
)  # fmt: skip
SMLAD = Dot(
    name="smlad", needs=frozenset({"thumb", "dsp"}), vector_bytes=4, registers=13, temporaries=6,
    forms=1, latency=1, rate=0.5, x=None, scheme=Scheme.LANES, is_sparse=False,
    counts=True, spread=3.0, fetch=3.0,
)  # fmt: skip
VWMACC = Dot(
    name="vwmacc", needs=frozenset({"riscv64", "v"}), vector_bytes=32, registers=16, temporaries=3,
    forms=1, latency=1, rate=1.0, depth=1, x=None, scheme=Scheme.LANES, is_sparse=False,
    counts=True, spread=1.0, fetch=2.0,
)  # fmt: skip
VRMPY = Dot(
    name="vrmpy", needs=HVX, vector_bytes=128, registers=32, temporaries=3,
    forms=1, latency=1, rate=1.0, block=128, scheme=Scheme.HALVES, aligned=True,
    counts=True, spread=2.0, fetch=1.0,
)  # fmt: skip
VRMPY_WORD = replace(
    VRMPY, name="vrmpy_word", weight_offset=128, together=4, most_places=8, is_sparse=False,
    spread=0.75,
)  # fmt: skip
PLAIN = Dot(
    name="plain", needs=frozenset(), vector_bytes=4, registers=16, temporaries=1,
    forms=1, latency=1, rate=1.0, depth=1,
)  # fmt: skip

DOTS = {
    dot.name: dot
    for dot in (
        VNNI512, VNNI256, AVX2_PAIRS, AVX2_WIDE, AVX2_NIBBLES,
        USMMLA, USDOT, SDOT, NEON_PAIRS, NEON_WIDE, ARMV7_PAIRS, ARMV7_WIDE,
        VMLADAVA, SMLAD, VWMACC, VRMPY_WORD, VRMPY, PLAIN,
    )
}  # fmt: skip
"""Best first."""


def scales_rows(traits: frozenset[str]) -> bool:
    """Whether every contraction of codes can end in the scales of rows: on vectors, with 64 bits to
    multiply in.
    """
    dots = usable(traits)[:-1]
    return any(d.lanes > 1 for d in dots) and all(d.scheme is not Scheme.HALVES for d in dots)


def usable(traits: frozenset[str]) -> list[Dot]:
    """The dots of a machine with these traits, best first; the last is plain loops."""
    return [dot for dot in DOTS.values() if dot.needs <= traits]
