"""Rounding of weights for the outputs of layers or blocks: AdaRound, AdaQuant, GPTQ, GPFQ."""

from qir.passes.rounding.methods import METHODS, Rounding, method_of, rounding_passes

__all__ = ["METHODS", "Rounding", "method_of", "rounding_passes"]
