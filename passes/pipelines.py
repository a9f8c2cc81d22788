"""The order of passes, by name: the one place that says it."""

from __future__ import annotations

from qir.passes.calibrate import Ranges
from qir.passes.fold_batch_norm import FoldBatchNorm
from qir.passes.fold_constants import FoldConstants
from qir.passes.manager import Pipeline
from qir.passes.move_transposes import MoveTransposes
from qir.passes.permute_columns import PermuteColumns
from qir.passes.quantize_graph import QuantizeGraph
from qir.passes.to_integer import ToInteger

CANONICALIZE = Pipeline(
    "canonicalize",
    "canonical",
    (
        FoldConstants(),
        MoveTransposes(),
        FoldBatchNorm(),
        PermuteColumns(),
    ),
)

TO_INTEGER = Pipeline("to-integer", "integer", (ToInteger(),))


def transform() -> Pipeline:
    """Float passes that make a canonical graph kinder to quantization, before calibration."""
    return Pipeline("transform", "transformed", ())


def quantize(ranges: Ranges | None, weight_bits: int = 8, activation_bits: int = 8) -> Pipeline:
    """Pairs on the edges of a float graph, by what calibration saw of it."""
    pairs = QuantizeGraph(ranges, weight_bits, activation_bits)
    return Pipeline("quantize", "simulated", (pairs,))
