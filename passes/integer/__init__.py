"""How each op family becomes integers; importing this package makes every rule known."""

from qir.passes.integer import contractions, elementwise, moving, storing, sums, tables
from qir.passes.integer.forms import Lowering, NoInteger
from qir.passes.integer.rules import rule_of

__all__ = [
    "Lowering", "NoInteger", "contractions", "elementwise", "moving", "rule_of", "storing", "sums",
    "tables",
]  # fmt: skip
