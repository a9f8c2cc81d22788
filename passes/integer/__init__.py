"""How each op family becomes integers; importing this package makes every rule known."""

from qir.passes.integer import contractions, elementwise, moving, sums
from qir.passes.integer import storing as quantizing
from qir.passes.integer.forms import RULES, Lowering, NoInteger

__all__ = [
    "RULES", "Lowering", "NoInteger", "contractions", "elementwise", "moving", "quantizing", "sums",
]  # fmt: skip
