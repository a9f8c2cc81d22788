"""The contents of a report as plain data, shared by the terminal, the page and the JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qir.ir.errors import ArtifactError
from qir.passes.transform.blocks.outcome import Caches
from qir.passes.transform.depth.outcome import Depth
from qir.report.chosen_bits import ChosenBits

WIDEST = 128  # bits of an intermediate
MOST_DECIBELS = 20_000  # more than the squares of all float64 reach


@dataclass(frozen=True)
class OpRow:
    """One kernel call: the op it is named after, with what was fused into it.

    name:     the value it computes; `reads` are its operands, of other rows or inputs.
    bits:     stored types, such as "u8 x i8 -> u8"; i4g32 are weights by groups of 32 channels.
    weight_bytes: of the constants it reads, each at its width.
    packed_bytes: of the kernel's constants in the artifact: padded, and with the numbers of its
              epilogue; None when no artifact was built.
    sqnr_db:  10 * log10(power of the float value / power of the error), on the calibration data;
              infinite for an exact value, None when not measured.
    micros:   median time of one call, None when not profiled.
    """

    name: str
    op: str
    loc: str
    kernel: str
    bits: str
    shape: tuple[int, ...]
    macs: int
    weight_bytes: int
    sqnr_db: float | None = None
    micros: float | None = None
    reads: tuple[str, ...] = ()
    packed_bytes: int | None = None

    def __post_init__(self) -> None:
        """Errors: ArtifactError for decibels that no float64 reaches."""
        if self.sqnr_db is not None and MOST_DECIBELS < abs(self.sqnr_db) < math.inf:
            raise ArtifactError(
                f"row {self.name}: {self.sqnr_db:g} dB, at most {MOST_DECIBELS} are needed"
            )


@dataclass(frozen=True)
class PassRow:
    """One run of a pass; `error` is the measured deviation, if its claim was checked."""

    name: str
    claim: str
    seconds: float | None
    rewrites: int
    ops_before: int
    ops_after: int
    error: float | None = None


@dataclass(frozen=True)
class Margin:
    """One intermediate of one op: its proven bounds, and its bits."""

    op: str
    what: str
    low: int
    high: int
    bits: int

    def __post_init__(self) -> None:
        """Errors: ArtifactError for a width that no accumulator has."""
        if not 2 <= self.bits <= WIDEST:
            raise ArtifactError(f"margin: {self.bits} bits, from 2 to {WIDEST} are needed")

    @property
    def bits_needed(self) -> int:
        """The least signed width that holds low and high."""
        return max(self.high.bit_length(), (-self.low - 1).bit_length() if self.low < 0 else 0) + 1

    @property
    def share(self) -> float:
        """The used share of the range: 1 is the limit."""
        top = 1 << (self.bits - 1)
        return max(self.high / (top - 1), -self.low / top, 0.0)


@dataclass(frozen=True)
class Proofs:
    """The integer-only proof, the overflow proof, and the check of the kernels' code.

    `overflow_claims` intermediates stay within their bits; `tightest` have the least room.
    """

    integer_only: str
    overflow_claims: int
    tightest: tuple[Margin, ...]
    kernels: str


@dataclass(frozen=True)
class Sizes:
    """Bytes of the artifact's parts, and of all its files.

    flash:  code, constants and weights: what is linked when only the core is called.
    ram:    workspace and static variables; the stack comes on top.
    inputs, outputs: stored integers, in memory of the caller's.
    state:  kept from call to call, in memory of the caller's; part of ram.
    """

    weights: int
    code: int
    workspace: int
    total: int
    flash: int
    ram: int
    inputs: int
    outputs: int
    state: int = 0


@dataclass(frozen=True)
class EntryRow:
    """One entry of an artifact with several: its kernel calls, and what one call of it does.

    tokens:      along axis 1 of its first input; 1 where there is no such axis.
    moved_bytes: that kernels read and write; weight_bytes: of these, constants as they are packed.
    """

    name: str
    tokens: int
    steps: int
    macs: int
    moved_bytes: int
    weight_bytes: int


@dataclass(frozen=True)
class Agreement:
    """The logits of a language model beside the float model's, on `tokens` of calibration text.

    kl:        mean Kullback-Leibler divergence of the float model's distribution from this one's,
               nats.
    top1:      share of places where both find the same token likeliest.
    positions: SQNR of the logits in dB by the place of a token, for equal parts of a sequence.
    """

    tokens: int
    kl: float
    top1: float
    positions: tuple[float, ...]


@dataclass(frozen=True)
class Port:
    """An input or output: real = scale * (stored - zero_point); no scale means plain integers.

    `name` is the model's own, `value` the one in the graph.
    """

    name: str
    value: str
    shape: tuple[int, ...]
    storage: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Share:
    """The share of one kernel in the program."""

    kernel: str
    calls: int
    macs: int
    weight_bytes: int
    micros: float | None

    @staticmethod
    def of(kernel: str, rows: Iterable[OpRow]) -> Share:
        every = list(rows)
        times = [r.micros for r in every if r.micros is not None]
        return Share(
            kernel,
            len(every),
            sum(r.macs for r in every),
            sum(r.weight_bytes for r in every),
            sum(times) if times else None,
        )


@dataclass(frozen=True)
class ReportData:
    """The contents of a report, independent of any form they are shown in.

    variants: the machines of a program for several, empty otherwise; `rows` then name the kernels
              of the last variant.
    chosen:   the assignment of bits, in mixed precision.
    warnings: where accuracy was given away that another model would keep.
    notes:    what passes did to single values, such as outliers.
    depth:    what was left out of the model, or runs side by side.
    caches:   how keys and values of attention are stored, where it is not in 8 bits as usual.
    entries:  of an artifact with several; `rows`, `inputs` and `outputs` are those of the first.
    agreement: of a language model with its float model.
    """

    name: str
    target: str
    rows: tuple[OpRow, ...]
    passes: tuple[PassRow, ...]
    proofs: Proofs
    sizes: Sizes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    created_by: tuple[tuple[str, str], ...]
    variants: tuple[str, ...] = ()
    chosen: ChosenBits | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    entries: tuple[EntryRow, ...] = ()
    agreement: Agreement | None = None
    depth: Depth | None = None
    caches: Caches | None = None

    def treatments(self) -> tuple[str, ...]:
        """Facts on what was changed on request: depth, keys and values."""
        depth = self.depth.lines() if self.depth else ()
        return (*depth, *(self.caches.lines() if self.caches else ()))

    @property
    def machine(self) -> str:
        """The target, and its variants where there are several."""
        return f"{self.target} ({', '.join(self.variants)})" if self.variants else self.target

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def micros(self) -> float | None:
        """The sum over all ops, None when none was timed."""
        times = [row.micros for row in self.rows if row.micros is not None]
        return sum(times) if times else None

    @property
    def worst_first(self) -> tuple[OpRow, ...]:
        """The rows by SQNR, least first; those not measured at the end, in program order."""
        return tuple(sorted(self.rows, key=lambda r: math.inf if r.sqnr_db is None else r.sqnr_db))

    @property
    def shares(self) -> tuple[Share, ...]:
        """The share of each kernel in the program, most MACs first."""
        names = dict.fromkeys(row.kernel for row in self.rows)
        shares = [Share.of(name, [r for r in self.rows if r.kernel == name]) for name in names]
        return tuple(sorted(shares, key=lambda s: (-s.macs, -(s.micros or 0), s.kernel)))
