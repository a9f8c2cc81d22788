"""Observers: estimate the range that the stored integers of a value cover."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from qir.ir.errors import DataError
from qir.ir.types import Array

BINS = 4096  # half of them for each sign; merging pairs keeps at least a quarter of them in use
TRIALS = 64  # ranges tried by the observers that search


@dataclass
class Histogram:
    """Counts of values in BINS bins of width 2**exponent, bin BINS // 2 starting at 0.

    Values outside make the width double and pairs of bins merge, which is exact: the histogram of
    given values is the same in whatever batches they came.
    """

    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    exponent: int | None = None

    def add(self, torch: Any, x: Any, largest: float) -> None:
        """Count the elements of a tensor of finite values, |x| <= largest."""
        self._reach(largest)
        assert self.exponent is not None
        scaled = torch.floor(x.reshape(-1).double() * 2.0**-self.exponent).long() + BINS // 2
        self.counts += torch.bincount(scaled, minlength=BINS).numpy()

    def _reach(self, largest: float) -> None:
        # |x| = m * 2**e with m < 1, so bins of 2**(e + 1) / BINS reach from -2**e to 2**e
        need = int(np.frexp(max(largest, 2.0**-100))[1]) + 1 - (BINS.bit_length() - 1)
        if self.exponent is None:
            self.exponent = need
        while self.exponent < need:
            self.counts, self.exponent = _halved(self.counts), self.exponent + 1

    @property
    def centres(self) -> Array:
        """The middle of each bin."""
        return (np.arange(BINS) - BINS // 2 + 0.5) * 2.0 ** (self.exponent or 0)

    def within(self, low: float, high: float) -> Histogram:
        """The counts of values outside moved into the bins of the ends."""
        width = 2.0 ** (self.exponent or 0)
        first, last = (
            int(np.clip(np.floor(end / width) + BINS // 2, 0, BINS - 1)) for end in (low, high)
        )
        counts = self.counts.copy()
        counts[first] += counts[:first].sum()
        counts[last] += counts[last + 1 :].sum()
        counts[:first] = counts[last + 1 :] = 0
        return Histogram(counts, self.exponent)

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of both sets of values."""
        if self.exponent is None or other.exponent is None:
            return other if self.exponent is None else self
        exponent = max(self.exponent, other.exponent)
        total = np.zeros(BINS, np.int64)
        for one in (self, other):
            counts = one.counts
            for _ in range(exponent - (one.exponent or 0)):
                counts = _halved(counts)
            total = total + counts
        return Histogram(total, exponent)


def _halved(counts: Array) -> Array:
    """The same counts in bins of twice the width, around the same zero."""
    half = np.zeros_like(counts)
    half[BINS // 4 : 3 * BINS // 4] = counts[0::2] + counts[1::2]
    return half


@dataclass
class Observation:
    """The observations of one value: number of elements, least, greatest, histogram; of the operand
    of a softmax, the least of the maxima along the last axis.
    """

    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    histogram: Histogram | None = None
    least_top: float = float("inf")

    def merged(self, other: Observation) -> Observation:
        """The observations of both values together."""
        have_histograms = self.histogram is not None and other.histogram is not None
        return Observation(
            self.count + other.count,
            min(self.low, other.low),
            max(self.high, other.high),
            self.histogram.merged(other.histogram) if have_histograms else None,  # type: ignore[union-attr, arg-type]
            min(self.least_top, other.least_top),
        )

    def within(self, ends: tuple[float, float]) -> Observation:
        """What was seen, clamped to an interval."""
        low, high = (min(max(x, ends[0]), ends[1]) for x in (self.low, self.high))
        histogram = self.histogram and self.histogram.within(low, high)
        return Observation(self.count, low, high, histogram, self.least_top)


@dataclass(frozen=True)
class Observer:
    """Chooses the range (low, high), low <= 0 <= high, that `levels` stored integers cover."""

    needs_histogram: ClassVar[bool] = True

    def range(self, histogram: Observation, levels: int) -> tuple[float, float]:
        """The range; that of a value that is always 0 is (0, 0)."""
        low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
        if histogram.histogram is None or low == high:
            return low, high
        if 2.0 ** (histogram.histogram.exponent or 0) > (high - low) / levels:
            return low, high  # bins wider than a step tell nothing of it
        below, above = self.choose(histogram.histogram, low, high, levels)
        return max(low, min(below, 0.0)), min(high, max(above, 0.0))

    def choose(
        self, histogram: Histogram, low: float, high: float, levels: int
    ) -> tuple[float, float]:
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True)
class MinMax(Observer):
    """The range of all observed elements."""

    needs_histogram: ClassVar[bool] = False

    def choose(
        self, histogram: Histogram, low: float, high: float, levels: int
    ) -> tuple[float, float]:
        return low, high


@dataclass(frozen=True)
class Percentile(Observer):
    """All but the outermost (100 - percent) / 100 of the elements, half of them on each side that
    has any."""

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise DataError(f"percentile observer: {self.percent} %, more than 50 to 100 is needed")

    def choose(
        self, histogram: Histogram, low: float, high: float, levels: int
    ) -> tuple[float, float]:
        share = np.cumsum(histogram.counts) / histogram.counts.sum()
        sides = (low < 0) + (high > 0)
        out = (1 - self.percent / 100) / sides
        width = 2.0 ** (histogram.exponent or 0)
        first = int(np.searchsorted(share, out, side="right"))
        last = int(np.searchsorted(share, 1 - out, side="left"))
        return histogram.centres[first] - width / 2, histogram.centres[
            min(last, BINS - 1)
        ] + width / 2


@dataclass(frozen=True)
class Searching(Observer):
    """Tries shrunken ranges, both ends by one factor and then each alone, and keeps the best."""

    def choose(
        self, histogram: Histogram, low: float, high: float, levels: int
    ) -> tuple[float, float]:
        occupied = histogram.counts > 0
        counts, centres = (
            histogram.counts[occupied].astype(np.float64),
            np.clip(histogram.centres[occupied], low, high),
        )
        factors = np.linspace(1.0, 1.0 / TRIALS, TRIALS)
        best = (self.cost(counts, centres, low, high, levels), low, high)
        for ends in ((1, 1), (1, 0), (0, 1)):
            _, low, high = best
            for f in factors:  # from the widest: it is chosen among equals
                a, b = low * (f if ends[0] else 1), high * (f if ends[1] else 1)
                cost = self.cost(counts, centres, a, b, levels)
                best = min(best, (cost, a, b), key=lambda trial: trial[0])
        return best[1], best[2]

    def cost(self, counts: Array, centres: Array, low: float, high: float, levels: int) -> float:
        raise NotImplementedError(type(self).__name__)


def _steps(centres: Array, low: float, high: float, levels: int) -> tuple[Array, float]:
    """The stored integer of each centre, and the scale, of an asymmetric quantization."""
    scale = (high - low) / (levels - 1) or 1.0
    zero = np.rint(-low / scale)
    return np.clip(np.rint(centres / scale), -zero, levels - 1 - zero), scale


@dataclass(frozen=True)
class MeanSquaredError(Searching):
    """The range with the least mean of (x - quantized x)**2."""

    def cost(self, counts: Array, centres: Array, low: float, high: float, levels: int) -> float:
        stored, scale = _steps(centres, low, high, levels)
        return float((counts * (centres - stored * scale) ** 2).sum())


@dataclass(frozen=True)
class Entropy(Searching):
    """The range with the least KL divergence of the quantized distribution from the clipped one.

    P: counts, those outside added to the bins at the ends. Q: the counts inside, spread evenly
    over the bins that share a stored integer. D = sum(P * log(P / Q)) / sum(P). A range holds at
    least half as many bins in use as it has integers: with one, P = Q whatever is clipped. Between
    equal ones the wider range. The bin of 0 counts as its neighbour: 0 is exact in any range, and
    the zeros of a relu would outweigh all else.
    Source: Migacz, "8-bit inference with TensorRT", GTC 2017, 128 bins at least for 8 bits; the bin
            of 0 as in NVIDIA's pytorch-quantization; two-sided ranges, bins in use: this project.
    """

    def choose(
        self, histogram: Histogram, low: float, high: float, levels: int
    ) -> tuple[float, float]:
        counts = histogram.counts.copy()
        counts[BINS // 2] = counts[BINS // 2 + 1]
        if not counts.any():
            return low, high
        return super().choose(Histogram(counts, histogram.exponent), low, high, levels)

    def cost(self, counts: Array, centres: Array, low: float, high: float, levels: int) -> float:
        inside = (centres >= low) & (centres <= high)
        if not inside.all() and np.count_nonzero(inside) < max(2, levels // 2):
            return float("inf")
        counts_inside = counts[inside]
        p = counts_inside.copy()
        p[0] += counts[centres < low].sum()
        p[-1] += counts[centres > high].sum()
        stored = _steps(centres[inside], low, high, levels)[0]
        _, group = np.unique(stored, return_inverse=True)
        q = (np.bincount(group, counts_inside) / np.bincount(group))[group]
        p, q = p / p.sum(), q / q.sum()
        return float((p * np.log(p / q)).sum())


OBSERVERS: dict[str, Observer] = {
    "min-max": MinMax(),
    "percentile": Percentile(),
    "mse": MeanSquaredError(),
    "entropy": Entropy(),
}


def observer_of(observer: str | Observer) -> Observer:
    """The observer itself, or the one of that name."""
    if isinstance(observer, Observer):
        return observer
    if observer not in OBSERVERS:
        raise DataError(
            f"observer {observer!r}: not known, one of {', '.join(OBSERVERS)} is needed"
        )
    return OBSERVERS[observer]
