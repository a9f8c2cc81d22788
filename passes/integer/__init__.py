"""How each op family becomes integers; importing this package makes every rule known."""

from qir.passes.integer import contractions, elementwise, moving, sums
from qir.passes.integer import storing as quantizing
from qir.passes.integer.forms import Lowering, NoInteger, rule_of

__all__ = [
    "Lowering", "NoInteger", "contractions", "elementwise", "moving", "quantizing", "rule_of",
    "sums",
]  # fmt: skip
