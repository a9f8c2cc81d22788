"""Kernels as data: what they compute, their packed constants, the choice of code. NumPy only."""

from qir.backends.kernels.contraction import Constants, Contraction
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import Plane
from qir.backends.kernels.prepare import ALIGNMENT, SLACK, prepare

__all__ = ["ALIGNMENT", "SLACK", "Constants", "Contraction", "Kernel", "Plane", "prepare"]
