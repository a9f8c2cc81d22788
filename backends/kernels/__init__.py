"""Kernels as data: what they compute, their packed constants, the choice of code. NumPy only."""

from qir.backends.kernels.contraction.prepare import SLACK, prepare
from qir.backends.kernels.contraction.spec import Constants, ContractionSpec
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import Plane

__all__ = ["SLACK", "Constants", "ContractionSpec", "Kernel", "Plane", "prepare"]
