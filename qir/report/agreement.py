"""How the logits of a language model compare with those of its float model, part by part."""

from __future__ import annotations

import numpy as np

from qir.ir.types import Array
from qir.passes.sensitivity.sqnr import decibels
from qir.report.rows import Agreement

PARTS = 8  # of a sequence, each with an SQNR of its own
AT_ONCE = 32  # tokens


class LogitsComparison:
    """Adds up what an Agreement says, over logits (B, N, V)."""

    def __init__(self) -> None:
        self.tokens = self.matches = 0
        self.kl = 0.0
        self.power = np.zeros((0, 2))  # of signal and noise, by position

    def add(self, floats: Array, integers: Array) -> None:
        count = floats.shape[-2]
        if len(self.power) == 0:
            self.power = np.zeros((count, 2))
        expected, actual = (x.reshape(-1, count, x.shape[-1]) for x in (floats, integers))
        for row in range(len(expected)):
            for first in range(0, count, AT_ONCE):
                part = slice(first, first + AT_ONCE)
                self._add(part, expected[row, part], actual[row, part])

    def _add(self, part: slice, expected: Array, actual: Array) -> None:
        sums = [(x.astype(np.float64) ** 2).sum(-1) for x in (expected, expected - actual)]
        self.power[part] += np.stack(sums, -1)
        p, q = _logarithms(expected), _logarithms(actual)
        self.kl += float((np.exp(p) * (p - q)).sum())
        self.matches += int((expected.argmax(-1) == actual.argmax(-1)).sum())
        self.tokens += len(expected)

    def agreement(self) -> Agreement | None:
        """None where nothing was added."""
        if not self.tokens:
            return None
        parts = np.array_split(self.power, min(PARTS, len(self.power)))
        along = tuple(decibels(*(float(x) for x in part.sum(0))) for part in parts)
        return Agreement(self.tokens, self.kl / self.tokens, self.matches / self.tokens, along)


def _logarithms(logits: Array) -> Array:
    """Of the probabilities."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))
