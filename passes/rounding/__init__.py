"""Weights rounded so that a layer or block gives what it gave: AdaRound, AdaQuant, GPTQ, GPFQ."""
