"""Permutations of axes."""

from __future__ import annotations

from functools import cache, lru_cache

Perm = tuple[int, ...]
Shape = tuple[int, ...]


@cache
def identity(rank: int) -> Perm:
    return tuple(range(rank))


@lru_cache(1 << 12)
def compose(first: Perm, then: Perm) -> Perm:
    """One permutation for transpose(transpose(x, first), then)."""
    return tuple(first[i] for i in then)


@lru_cache(1 << 12)
def inverse(perm: Perm) -> Perm:
    back = [0] * len(perm)
    for to, source in enumerate(perm):
        back[source] = to
    return tuple(back)


def permuted(shape: Shape, perm: Perm) -> Shape:
    """What `shape` has for each axis, in the order of `perm`."""
    return tuple(shape[a] for a in perm)
