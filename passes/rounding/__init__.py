"""Weights rounded so that a layer or block gives what it gave: AdaRound, AdaQuant, GPTQ, GPFQ."""

from qir.passes.rounding.methods import METHODS, Rounding, method_of, rounding_passes

__all__ = ["METHODS", "Rounding", "method_of", "rounding_passes"]
