"""Symmetric Hadamard matrices: of 1 and -1, with orthogonal rows; products by them are sums."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST_FACTOR = 256  # of a size: that which is no power of two is multiplied as a matrix


@cache
def factors(size: int) -> tuple[int, int] | None:
    """(K, p) with size = K * p, p the greatest power of two whose K is 1 or an order of Paley's.

    None where there is none: of 172 = 4 * 43, for example.
    Source: Paley 1933, On orthogonal matrices, J. Math. Phys. 12, for primes q: q + 1 with q = 3
            mod 4, 2 * (q + 1) with q = 1 mod 4.
    """
    p = size & -size
    while size > 0 and p:
        if size // p == 1 or _prime_of(size // p) is not None:
            return size // p, p
        p //= 2
    return None


def signs(size: int) -> npt.NDArray[np.int8]:
    """The matrix H of `size`: Paley's of order K (x) Sylvester's of order p; H @ H = size * 1.

    Needs: factors(size).
    """
    order, p = _factors(size)
    sylvester = np.ones((1, 1), np.int8)
    while len(sylvester) < p:
        sylvester = np.block([[sylvester, sylvester], [sylvester, -sylvester]])
    return np.kron(paley(order), sylvester)


def product(x: Any, size: int, numpy: Any, paley_matrix: Any) -> Any:
    """Each block of `size` along the last axis times H, by log2(p) stages of sums and differences.

    `numpy`: NumPy or torch, whose array x is; `paley_matrix`: paley(K) as one of its arrays.
    """
    order, p = _factors(size)
    y = x.reshape(*x.shape[:-1], -1, order, p)
    if order > 1:
        y = numpy.einsum("...ip,ij->...jp", y, paley_matrix)
    half = 1
    while half < p:
        y = y.reshape(*x.shape[:-1], -1, 2, half)
        a, b = y[..., 0, :], y[..., 1, :]
        y = numpy.stack((a + b, a - b), -2)
        half *= 2
    return y.reshape(x.shape)


@cache
def paley(order: int) -> npt.NDArray[np.int8]:
    """Paley's matrix of an order that `factors` gives; of the first kind with rows in an order and
    of a sign that make it symmetric.
    """
    if order == 1:
        return np.ones((1, 1), np.int8)
    q = _prime_of(order)
    assert q is not None
    squares = {i * i % q for i in range(1, q)}
    kinds = np.array([0] + [1 if i in squares else -1 for i in range(1, q)])
    i, j = np.arange(q)[:, None], np.arange(q)[None]
    s = np.ones((q + 1, q + 1), np.int64)
    if q % 4 == 3:
        s[1:, 1:] = -kinds[-(i + j) % q] - ((i + j) % q == 0)
        return s.astype(np.int8)
    s[1:, 1:], s[0, 0] = kinds[(i - j) % q], 0
    two = np.kron(s, [[1, 1], [1, -1]]) + np.kron(np.eye(q + 1), [[1, -1], [-1, -1]])
    return two.astype(np.int8)


def _factors(size: int) -> tuple[int, int]:
    pair = factors(size)
    assert pair is not None
    return pair


def _prime_of(order: int) -> int | None:
    """The prime of Paley's construction of this order."""
    if order % 4 or order > LARGEST_FACTOR:
        return None
    if _is_prime(order - 1):
        return order - 1
    q = order // 2 - 1
    return q if q % 4 == 1 and _is_prime(q) else None


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
