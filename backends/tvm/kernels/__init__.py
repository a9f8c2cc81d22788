"""TIR functions for the kernels of qir.backends.kernels."""

from qir.backends.tvm.kernels.registry import emit

__all__ = ["emit"]
