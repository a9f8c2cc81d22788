"""Synthetic heads whose keys have outlier channels, and the error of their scores by format.

Channels of keys have sizes as the rows of W_k of large models have: most near 1, a few larger by
far, anywhere in the head. Queries have one size, or are `balanced`: smaller where keys are larger,
so that no channel decides the scores alone. Of each format the root of the mean squared error of
scores over that of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from tests.bench.block_formats import FREE, HADAMARD, PAIRS, STORED, Format, hadamard

HEADS, TOKENS, WIDTH = 16, 256, 128
OUTLIERS, TIMES = 8, 12.0  # channels of a head, and how much larger they are


def scores(
    formats: Sequence[Format], balanced: bool, seed: int = 0
) -> Iterator[tuple[Format, float]]:
    """The relative error of scores in each format."""
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.exp(0.3 * torch.randn(HEADS, WIDTH, generator=rng))
    for head in sizes:
        head[torch.randperm(WIDTH, generator=rng)[:OUTLIERS]] *= TIMES
    keys = torch.randn(HEADS, TOKENS, WIDTH, generator=rng) * sizes[:, None]
    queries = torch.randn(HEADS, TOKENS, WIDTH, generator=rng)
    if balanced:
        queries = queries / sizes[:, None]
    expected = queries @ keys.transpose(1, 2)
    for one in formats:
        error = queries @ (stored(keys, sizes, one) - keys).transpose(1, 2)
        yield one, float((error.square().mean() / expected.square().mean()).sqrt())


def stored(keys: torch.Tensor, sizes: torch.Tensor, one: Format) -> torch.Tensor:
    """Keys (heads, tokens, D) as a cache of the format holds them."""
    if one.order == STORED:
        return torch.as_tensor(one.rounded(keys))
    if one.order == HADAMARD:
        h = hadamard(WIDTH)
        return torch.as_tensor(one.rounded(keys @ h) @ h.T)
    if one.order == PAIRS:
        halves = sizes.square().reshape(HEADS, 2, -1).sum(1)
        by = torch.argsort(halves, 1, descending=True)
        at = torch.stack([by, by + WIDTH // 2], 2).reshape(HEADS, -1)
    else:
        assert one.order == FREE
        at = torch.argsort(sizes, 1, descending=True)
    place = at[:, None].expand(keys.shape)
    return torch.empty_like(keys).scatter_(-1, place, one.rounded(keys.gather(-1, place)))
