"""Small modules that the tests of operators import."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """One head, written out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(size, size) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(-1, -2) / x.shape[-1] ** 0.5
        y: Tensor = scores.softmax(-1) @ self.v(x)
        return y


class SelfAttention(nn.Module):
    """torch's own, of two heads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return y


def prelu(channels: int) -> nn.Module:
    made = nn.PReLU(channels)
    made.weight.data.copy_(torch.linspace(-0.5, 0.5, channels))
    return made
