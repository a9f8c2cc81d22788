"""simulated -> integer: a rule for each op family; importing this package registers them."""

from qir.passes.integer import (
    contractions,
    elementwise,
    moving,
    sequences,
    storing,
    sums,
    tables,
)
from qir.passes.integer.forms import Lowering, NoInteger
from qir.passes.integer.rules import rule_of

__all__ = [
    "Lowering", "NoInteger", "contractions", "elementwise", "moving", "rule_of", "sequences",
    "storing", "sums", "tables",
]  # fmt: skip
