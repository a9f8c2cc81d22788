"""The epilogue of contractions: the exact form is chosen here, and its constants laid out.

On vectors of int32 lanes the fast form of `(v*m + 2**(s-1)) >> s` is `hi32(v*m + c64) >> t` with
t = s - 32: the rounding constant, the bias and the zero point are folded into the int64 c64. A
shift below 32 is raised to 32 by shifting v left first, when the proven range of v allows. Where an
int64 or int32 bound fails, the wide form shifts and clamps in 64-bit lanes. Where the CPU has a
52-bit multiply-add, odd lanes use it: their accumulators start high enough never to be negative.

By the scheme of the dot: pairs does every second lane at once; lanes widens each lane; halves has
no 64-bit lanes and takes m = h * 2**16 + l apart,

    (v*m + 2**(s-1)) >> 31 = (((v*l) >> 16) + 2**(s-17) + v*h) >> 15

(with 2**(s-32) after that, in place of 2**(s-17), where s is large), whose inner sums are proven to
fit 32 bits (the last one 48, inside the instruction); accumulators start at the bias, so that
nothing else has bits below 2**16, and a residual brings its own carry.
All give the same bits as the definition in `contraction`.

A record is laid out for the instructions that read it, so that each field is a memory operand; or
it is `narrow`: multipliers that every second lane takes are stored once, shifts are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qir.backends.kernels.contraction.spec import Array, Constants, ContractionSpec
from qir.backends.kernels.dots import Scheme
from qir.backends.kernels.plane import RANGE
from qir.ir.fixed import MANTISSA_BITS, MAX_SHIFT
from qir.ir.ops.accumulate import signed_sums

LONGS = frozenset({"add", "shift", "row_bias"})
"""Fields of 8 bytes for each lane; those of every second lane have 8 for two."""
SHIFTS = frozenset({"shift", "before", "after", "row_shift"})
"""Fields of a byte for each lane in narrow records. All others have 4."""

INT32, INT64 = RANGE["int32"], (-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Epilogue:
    """How accumulators become stored values; part of a kernel's code.

    `zero_point` is what is left to add after the shift (0 when folded). `before`, `after`:
    per-channel shifts of the fast form are present. `fused`: accumulators begin at `start`, odd
    lanes are multiplied and added at once. `late`: some rounding is added after the products.
    `biased`: raw sums have a bias. Constants of one vector of channels are a record of `fields`.
    """

    dtype: str
    low: int
    high: int
    raw: bool = False
    wide: bool = False
    before: bool = False
    after: bool = False
    zero_point: int = 0
    residual: str | None = None
    fused: bool = False
    scheme: Scheme = Scheme.PAIRS
    late: bool = False
    biased: bool = True
    rows: tuple[str, ...] = ()
    narrow: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        if self.raw and self.scheme is Scheme.HALVES:
            return ("start",)
        if self.raw:
            return (*(("bias",) if self.biased else ()), *self.rows)
        names = ["start"] if self.starts else []
        names += self._halves("mult")
        names += ["half"] if self.scheme is Scheme.HALVES else self._halves("add")
        names += ["late"] if self.late else []
        if self.residual:
            names += self._halves("residual")
            names += ["center"] if self.scheme is Scheme.HALVES else []
        names += self._halves("shift") if self.wide else []
        names += ["before"] if self.before else []
        names += ["after"] if self.after else []
        return tuple(names)

    def _halves(self, name: str) -> list[str]:
        """The field, or those of the even and of the odd lanes, where it is stored so."""
        if self.scheme is not Scheme.PAIRS or (self.narrow and name != "add"):
            return [name]
        return [f"{name}_even", f"{name}_odd"]

    def lane_bytes(self, name: str) -> int:
        """Of a field, for each lane of a vector."""
        if self.narrow and name in SHIFTS:
            return 1
        return 8 if name in LONGS else 4

    @property
    def starts(self) -> bool:
        """Accumulators begin at the field `start`, not at 0."""
        return self.fused or self.scheme is Scheme.HALVES

    def offset(self, field: str, lanes: int) -> int:
        """Bytes of a record before a field."""
        return sum(map(self.lane_bytes, self.fields[: self.fields.index(field)])) * lanes

    def record_bytes(self, lanes: int) -> int:
        """Of the constants of one vector of channels."""
        return sum(map(self.lane_bytes, self.fields)) * lanes

    @property
    def clamps(self) -> bool:
        """The clamp is narrower than the storage."""
        return (self.low, self.high) != RANGE[self.dtype]


@dataclass(frozen=True, eq=False)
class ChannelConstants:
    """Per-channel numbers, in channel order, from which every layout takes its records."""

    bias: Array
    mult: Array
    add: Array
    shift: Array
    before: Array
    after: Array
    residual: Array
    start: Array
    half: Array
    late: Array
    center: Array
    rows: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class _Terms:
    """One channel: v in [low, high] times mult, plus r times r_mult, plus add, shifted."""

    low: int
    high: int
    mult: int
    shift: int
    add: int
    r_low: int
    r_high: int
    r_mult: int
    bias: int
    r_zero: int

    def fits(self, left_shift: int, zero_point: int) -> bool:
        """No int64 sum, in the order the kernels add, and no shifted int32 overflows."""
        ends = [
            self.low << left_shift,
            self.high << left_shift,
            self.r_low << left_shift,
            self.r_high << left_shift,
        ]
        add = (self.add + (zero_point << self.shift)) << left_shift
        products = [v * self.mult + add for v in ends[:2]]
        sums = [p + r * self.r_mult for p in products for r in ends[2:]]
        return all(_within(v, INT32) for v in ends) and all(
            _within(s, INT64) for s in [add, *products, *sums]
        )

    def halves(self, left_shift: int) -> tuple[int, int]:
        """2**(shift-1) as it is added before the last product, and after it where it is larger."""
        shift = self.shift + left_shift
        return (1 << (shift - 17), 0) if shift <= 47 else (0, 1 << (shift - 32))

    def fits_halves(self, left_shift: int) -> bool:
        """No 32-bit sum of the scheme halves overflows."""
        v = [(e + self.bias) << left_shift for e in (self.low, self.high)]
        r = [(e - self.r_zero) << left_shift for e in (self.r_low, self.r_high)]
        residual_ends = [(e * self.r_mult) >> 16 for e in r]
        first, last = self.halves(left_shift)
        low, high = (
            min(v[0], 0) + min(residual_ends) - 2,
            max(v[1], 0) + max(residual_ends) + first + last + 2,
        )
        products = [e * (self.r_mult >> 16) for e in r]
        return all(_within(e, INT32) for e in (*v, *r, *products, low, high))

    def fits_52_bits(self) -> bool:
        """The product of an accumulator that starts at -low, as unsigned 52 bits."""
        return (self.high - self.low) * self.mult < 2**52


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def acc_range(weights: Array, x_range: tuple[int, int]) -> tuple[Array, Array]:
    """The least and greatest acc of each output channel, attained."""
    positive, negative = signed_sums(weights.reshape(len(weights), -1))
    low, high = x_range
    return positive * low + negative * high, positive * high + negative * low


def plan_epilogue(
    spec: ContractionSpec,
    const: Constants,
    bias: Array,
    x_range: tuple[int, int],
    multiplies_52_bits: bool = False,
    scheme: Scheme = Scheme.PAIRS,
    narrow: bool = False,
) -> tuple[Epilogue, ChannelConstants]:
    """The cheapest exact form for all channels; `bias`, `x_range` as the dot reads the input.

    The scheme halves has no wide form: one that is marked wide cannot be built.
    """
    low, high = acc_range(const.scaled_weights, x_range)
    count = spec.y.channels
    residual = spec.residual.dtype if spec.residual else None
    base = Epilogue(
        spec.y.dtype, *spec.clamp, raw=spec.is_raw, residual=residual, scheme=scheme,
        biased=bool(np.any(bias)), narrow=narrow,
    )  # fmt: skip
    terms = _terms(spec, const, bias, low, high)
    shift = np.array([t.shift for t in terms], np.int64)
    left_shifts = [0] * count
    epilogue = base
    if not spec.is_raw:
        least_shift = 31 if scheme is Scheme.HALVES else 32
        left_shifts = [max(0, least_shift - t.shift) for t in terms]
        epilogue = _cheapest(base, terms, left_shifts, const.zero_point)
    if epilogue.wide:
        left_shifts = [0] * count
    if multiplies_52_bits and not (epilogue.raw or epilogue.wide or epilogue.before):
        epilogue = replace(epilogue, fused=all(t.fits_52_bits() for t in terms))
    zero_shift = 0 if spec.is_raw or epilogue.wide else const.zero_point - epilogue.zero_point
    add = [(t.add + (zero_shift << t.shift)) << k for t, k in zip(terms, left_shifts, strict=True)]
    halves = np.array([(0, 0)] * count)
    if scheme is Scheme.HALVES and not (epilogue.raw or epilogue.wide):
        halves = np.array([t.halves(k) for t, k in zip(terms, left_shifts, strict=True)])
    return epilogue, ChannelConstants(
        bias=np.asarray(bias, np.int64),
        mult=np.array([t.mult for t in terms], np.int64),
        add=np.array([0] * count if spec.is_raw else add, np.int64),
        shift=shift,
        before=np.array(left_shifts, np.int64),
        after=np.maximum(shift - (31 if scheme is Scheme.HALVES else 32), 0),
        residual=np.array([t.r_mult for t in terms], np.int64),
        start=np.array([_start(t, epilogue) for t in terms], np.int64),
        center=np.array([t.r_zero for t in terms], np.int64),
        half=halves[:, 0],
        late=halves[:, 1],
    )


def _start(t: _Terms, code: Epilogue) -> int:
    if code.scheme is Scheme.HALVES:
        return t.bias
    return -t.low if code.fused else 0


def _terms(
    spec: ContractionSpec, const: Constants, bias: Array, low: Array, high: Array
) -> list[_Terms]:
    count = spec.y.channels
    columns = [
        np.broadcast_to(np.asarray(v, np.int64), (count,)).tolist()
        for v in (low, high, const.mult, const.shift, bias, const.residual_mult)
    ]
    r_low, r_high = RANGE[spec.residual.dtype] if spec.residual else (0, 0)
    terms = []
    for lo, hi, mult, shift, b, r_mult in zip(*columns, strict=True):
        if not spec.is_raw and not _fit(mult, shift, r_mult):
            raise ValueError(
                f"contraction: mult {mult}, shift {shift}, residual mult {r_mult}; "
                f"mults in [0, 2**{MANTISSA_BITS}) and a shift in [1, {MAX_SHIFT}] are needed"
            )
        if not (_within(lo, INT32) and _within(hi, INT32)):
            raise ValueError(f"contraction: the accumulator spans [{lo}, {hi}], 32 bits are needed")
        half = 1 << (shift - 1)
        r_mult = r_mult if spec.residual else 0
        add = b * mult + half - const.residual_zero_point * r_mult
        zero = const.residual_zero_point if spec.residual else 0
        terms.append(_Terms(lo, hi, mult, shift, add, r_low, r_high, r_mult, b, zero))
    return terms


def _fit(mult: int, shift: int, r_mult: int) -> bool:
    """Whether a channel has numbers that the forms are made for."""
    fits = all(0 <= m < 1 << MANTISSA_BITS for m in (mult, r_mult))
    return fits and 1 <= shift <= MAX_SHIFT


def _cheapest(
    base: Epilogue, terms: list[_Terms], left_shifts: list[int], zero_point: int
) -> Epilogue:
    if base.scheme is Scheme.HALVES:
        fits = all(t.fits_halves(k) for t, k in zip(terms, left_shifts, strict=True))
        after = any(t.shift > 31 for t in terms)
        late = any(t.shift > 47 for t in terms)
        base = replace(base, after=after, late=late, zero_point=zero_point)
        return replace(base, wide=not fits, before=any(left_shifts))
    for rest in (0, zero_point):
        if all(t.fits(k, zero_point - rest) for t, k in zip(terms, left_shifts, strict=True)):
            return replace(
                base,
                before=any(left_shifts),
                after=any(t.shift > 32 for t in terms),
                zero_point=rest,
            )
    return replace(base, wide=True, zero_point=zero_point)


def records(epilogue: Epilogue, channels: ChannelConstants, order: Array, lanes: int) -> bytes:
    """The constants of vectors whose lane (v, i) is channel `order[v, i]`; -1: no channel."""
    real = order >= 0
    places = np.where(real, order, 0)
    constants = {
        name: np.where(real, values[places], 0)
        for name, values in (vars(channels) | dict(channels.rows)).items()
        if isinstance(values, np.ndarray)
    }
    if epilogue.scheme is Scheme.PAIRS:
        constants["start"] = constants["start"] * (np.arange(lanes) % 2)  # even lanes start at 0
        constants["add"] = constants["add"] - constants["start"] * constants["mult"]
    rows = [np.zeros((len(order), 0), np.uint8)]
    for name in epilogue.fields:
        stem = name.removesuffix("_even").removesuffix("_odd")
        values, size = constants[stem], epilogue.lane_bytes(stem)
        if name != stem:
            values, size = values[:, int(name.endswith("_odd")) :: 2], 8
        stored = np.ascontiguousarray(values.astype(f"<i{size}"))
        rows.append(stored.view(np.uint8).reshape(len(order), -1))
    assert sum(row.shape[1] for row in rows) == epilogue.record_bytes(lanes)
    return np.concatenate(rows, axis=1).tobytes()
