"""The order of passes, by name: the one place that says it."""

from __future__ import annotations

from qir.passes.fold_batch_norm import FoldBatchNorm
from qir.passes.fold_constants import FoldConstants
from qir.passes.manager import Pipeline
from qir.passes.move_transposes import MoveTransposes
from qir.passes.permute_columns import PermuteColumns

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
