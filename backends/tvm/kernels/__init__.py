"""TIR functions for the kernels of qir.backends.kernels."""

from qir.backends.tvm.kernels.emit import emit

__all__ = ["emit"]
