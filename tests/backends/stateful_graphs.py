"""Small integer graphs with states, for any number of tokens: what one call of n tokens gives, n
calls of one give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Concat, Slice
from qir.ir.types import I8, I16, Quant, Tensor
from tests.small_graphs import Small

CHANNELS, KEPT = 12, 3


def recurrent(tokens: int) -> Graph:
    """s = s / 2 + x for each token: y (1, tokens, C).

    Two states: the sum (1, 1, C), of zero point 5, and the last KEPT tokens (1, KEPT, C).
    """
    b = Small("recurrent")
    x = b.image(1, tokens, CHANNELS, zero=128)
    total = b.input("total", Tensor((1, 1, CHANNELS), Quant.per_tensor(I16, 0.01, 5)))
    recent = b.input("recent", Tensor((1, KEPT, CHANNELS), x.type.elem))
    sums, now = [], total
    for t in range(tokens):
        token = _rows(b, x, t, t + 1)
        now = b.requantize(_halved(b, now), token, scale=0.01, zero=5, storage=I16)
        sums.append(now)
    every = b.add(Concat((recent, x), 1))
    after = _rows(b, every, tokens, tokens + KEPT)
    y = b.requantize(b.add(Concat(tuple(sums), 1)), scale=0.05, zero=0, storage=I8)
    graph = b.finish([y, after, now], ["y", "recent", "total"])
    states = (("total", now.name), ("recent", after.name))
    return replace(graph, states=states)


def _halved(b: Small, x: Value) -> Value:
    """The same stored integers at half the scale."""
    return b.requantize(x, scale=0.02, zero=5, storage=I16)


def _rows(b: Small, x: Value, begin: int, end: int) -> Value:
    return b.add(Slice(x, (0, begin, 0), (1, end, CHANNELS), (1, 1, 1)))


def entries() -> Mapping[str, Graph]:
    """The entries `decode` of 1 token and `prefill` of 4."""
    return {"decode": recurrent(1), "prefill": recurrent(4)}
