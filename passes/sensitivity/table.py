"""How sensitive each layer is, by every measure: numbers to read, compare, and keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are used

from qir.ir.errors import DataError, PassError
from qir.passes.bits.choice import Bits

ByBits = Mapping[str, Mapping[Bits, float]]

# Measures of a layer, whatever its bits.
TRACE = "trace"
INPUT_TRACE = "input_trace"
EIGENVALUE = "eigenvalue"
INPUT_CHANGE = "lim"
WEIGHT_TAIL = "zd"
RELEVANCE = "relevance"
# Losses of a layer for each of its bits.
HESSIAN = "hessian"
HESSIAN_WEIGHTS = "hessian_weights"
EIGENVALUE_LOSS = "eigenvalue_loss"
WEIGHT_NOISE = "weight_noise"
OUTPUT_NOISE = "output_noise"
ALONE = "alone"

MEANINGS = {
    TRACE: "mean of the Hessian's diagonal by the weights (HAWQ-V2)",
    INPUT_TRACE: "mean of the Hessian's diagonal by the layer's input",
    EIGENVALUE: "largest eigenvalue of the Hessian by the weights, over their number (HAWQ)",
    INPUT_CHANGE: "1 - cosine of input and output (LIM)",
    WEIGHT_TAIL: "share of weights more than a standard deviation above their mean (ZD)",
    RELEVANCE: "share of the layer in the relevance of all (LRP)",
    HESSIAN: "trace * ||Q(W) - W||^2 + input trace * ||Q(x) - x||^2",
    HESSIAN_WEIGHTS: "trace * ||Q(W) - W||^2 (HAWQ-V3)",
    EIGENVALUE_LOSS: "largest eigenvalue * ||Q(W) - W||^2 (HAWQ)",
    WEIGHT_NOISE: "||Q(W) - W||^2 / ||W||^2, 1 / SQNR",
    OUTPUT_NOISE: "noise / signal of the layer's output, 1 / SQNR",
    ALONE: "loss of the network with this layer alone in these bits (AdaQuant)",
}
FALLING = {WEIGHT_TAIL}  # the smaller, the more sensitive is the layer


@dataclass(frozen=True)
class Sensitivities:
    """For each layer {measure: value}; for each measure that knows bits {layer: {bits: loss}}; and
    the standard error of those values that are estimated.

    Losses of one measure are additive and of one unit; those of two are not comparable.
    """

    values: Mapping[str, Mapping[str, float]]
    by_bits: Mapping[str, ByBits]
    errors: Mapping[str, Mapping[str, float]]

    def losses(self, measure: str = HESSIAN) -> ByBits:
        """{layer: {bits: loss}} as measured_layer takes it.

        Errors: PassError for a measure without losses, with those that have some.
        """
        if measure not in self.by_bits:
            raise PassError(
                f"sensitivities {measure}: no losses of it, one of {', '.join(self.by_bits)} is "
                f"needed"
            )
        return self.by_bits[measure]

    def columns(self, bits: Bits) -> dict[str, dict[str, float]]:
        """{measure: {layer: number}}, losses at these bits; the greater, the more sensitive.

        Errors: PassError for bits that were not measured.
        """
        by_measure: dict[str, dict[str, float]] = {}
        for name, values in self.values.items():
            for measure, value in values.items():
                sign = -1.0 if measure in FALLING else 1.0
                by_measure.setdefault(measure, {})[name] = sign * value
        for measure, layers in self.by_bits.items():
            for name, losses in layers.items():
                if bits not in losses:
                    raise PassError(
                        f"sensitivities {bits}: not measured, one of "
                        f"{', '.join(map(str, losses))} is needed"
                    )
                by_measure.setdefault(measure, {})[name] = losses[bits]
        return by_measure

    def agreement(self, bits: Bits) -> dict[str, dict[str, float]]:
        """Spearman's rank correlation over layers between all measures, losses at these bits.

        Signs are chosen so that 1 means the same order of sensitivity. NaN where a measure is equal
        for all layers.
        Errors: PassError for bits that were not measured, or less than three layers.
        """
        columns = self.columns(bits)
        if len(self.values) < 3:
            raise PassError(f"agreement: {len(self.values)} layers, at least 3 are needed")
        rows = {m: np.array([column[n] for n in self.values]) for m, column in columns.items()}
        return {a: {b: correlation(rows[a], rows[b]) for b in rows} for a in rows}

    def to_json(self) -> str:
        """Plain data, read back by from_json as an equal value."""
        by_bits = {
            measure: {n: {str(b): x for b, x in losses.items()} for n, losses in layers.items()}
            for measure, layers in self.by_bits.items()
        }
        return json.dumps({"values": self.values, "by_bits": by_bits, "errors": self.errors})

    @classmethod
    def from_json(cls, text: str) -> Sensitivities:
        """The sensitivities that to_json wrote.

        Errors: DataError for anything else; ParseError for bits that are none.
        """
        try:
            content = json.loads(text)
            values, errors, tables = content["values"], content["errors"], content["by_bits"]
            by_bits = {
                measure: {n: {Bits.parse(b): float(x) for b, x in losses.items()}
                          for n, losses in layers.items()}
                for measure, layers in tables.items()
            }  # fmt: skip
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as e:
            raise DataError(
                f"sensitivities: not readable ({e!r}), what to_json wrote is needed"
            ) from e
        return cls(values, by_bits, errors)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, NaN where one of the two is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(a, b).statistic)
