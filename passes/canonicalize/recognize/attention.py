"""Recognize attention, whatever way its heads are split, scaled and masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Attention, MatMul, Mul, Reshape, Softmax, Transpose
from qir.ir.types import Array
from qir.passes.canonicalize.recognize.places import emitted, places_of, reshaped, source_of
from qir.passes.canonicalize.recognize.scores import Scores, kept_rows, scores_of
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeAttention(RewritePass):
    """softmax(q @ k.T * scale + mask) @ v of heads -> attention(q, k, v) of (B, N, heads * size)

    1. Heads: q, k and v may be moved and repeated (for several heads of q) in any way before the
       products; of what they are made, (B, N, C) is taken back, by a slice where q, k and v
       are parts of one projection.
    2. Scale: factors and divisors of q, k, and of the scores.
    3. Masks: constants that hide keys (-10000 and less) become `causal`, `window`, or `visible`;
       other constants, and floats of the run, `bias`; masks of the run that the caller gives
       as integers or bits, `visible`.
    Weights that something else reads too stay, and so do queries that a constant mask hides from
    all keys, unless the model gives 0 for them as attention does. Where a mask of the run does so,
    attention gives 0 and a softmax gave the mean of all values.
    Keeps: reals within 1e-4, where each query sees a key (sums in another order; a hidden key has
    weight 0 exactly).
    """

    name: ClassVar[str] = "recognize-attention"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    roots: ClassVar[tuple[type[Op], ...]] = (MatMul,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, MatMul)
        if not op.a.type.is_float or op.a.type.rank < 3:
            return Miss("no product of heads of floats")
        weights = weights_of(at, op.a)
        if isinstance(weights, Miss):
            return weights
        softmax, hides_rows = weights
        scores = scores_of(at, softmax.x, hides_rows)
        if isinstance(scores, Miss):
            return scores
        q, k, v = (moved(at, x) for x in (scores.q, scores.k, op.b))
        if q is None or k is None or v is None:
            return Miss("q, k or v is scaled by channel")
        v = v if v.factor == 1 else Moved.unmoved(op.b)
        return fused(at, op, scores, q, replace(k, places=np.swapaxes(k.places, -1, -2)), v)


def weights_of(at: Site, value: Value) -> tuple[Softmax, bool] | Miss:
    """The softmax that weights are, and whether rows of them are set to 0 behind it."""
    hides = False
    while True:
        if at.uses(value) != 1:
            return Miss("the weights are read elsewhere too", value.name)
        op = at.producer(value)
        match op:
            case Softmax():
                return op, hides
            case Reshape() if keeps_matrices(op):
                value = op.x
            case Mul() if (x := kept_rows(at, op)) is not None:
                value, hides = x, True
            case _:
                return Miss("no weights of a softmax", value.name)


def keeps_matrices(op: Reshape) -> bool:
    return op.x.type.rank >= 2 and op.x.type.shape[-2:] == op.shape[-2:]


@dataclass(frozen=True)
class Moved:
    """An operand of a product as elements of its source, times one number."""

    source: Value
    places: Array
    factor: float

    @staticmethod
    def unmoved(value: Value) -> Moved:
        return Moved(value, np.arange(value.type.size).reshape(value.type.shape), 1.0)


def moved(at: Site, value: Value) -> Moved | None:
    places = places_of(at, value, source_of(at, value, sums=False))
    if (
        places is None
        or not places.factors.size
        or np.any(places.factors != places.factors.flat[0])
    ):
        return None
    return Moved(places.source, places.places[0], float(places.factors.flat[0]))


@dataclass(frozen=True)
class HeadPlaces:
    """q, k and v as places of rows (B, N, heads * size) in their sources."""

    batch: int
    heads: int
    kv_heads: int
    rows: tuple[Array, Array, Array]


def fused(at: Site, op: MatMul, scores: Scores, q: Moved, k: Moved, v: Moved) -> Value | Miss:
    """The attention, its heads moved back to where the result of the product has them."""
    lead = op.result.type.shape[:-2]
    operands = [
        replace(x, places=np.broadcast_to(x.places, (*lead, *x.places.shape[-2:])))
        for x in (q, k, v)
    ]
    split = heads_of(operands, lead)
    heads, rows = split.heads, split.rows
    shape = (split.batch, heads, rows[0].shape[1], rows[1].shape[1])
    masks = scores.masks(at, shape, lead)
    if isinstance(masks, Miss):
        return masks
    values = [emitted(at, x.source, r) for x, r in zip(operands, rows, strict=True)]
    if any(x is None for x in values):
        return Miss("q, k or v is no transpose of what it is made of")
    a, b, c = (x for x in values if x is not None)
    scale = scores.scale * q.factor * k.factor
    y = at.emit(Attention(a, b, c, *masks.operands, heads, split.kv_heads, scale, *masks.facts))
    by_head = reshaped(at, y, (*y.type.shape[:2], heads, y.type.shape[2] // heads))
    return reshaped(at, at.emit(Transpose(by_head, (0, 2, 1, 3))), op.result.type.shape)


def heads_of(operands: list[Moved], lead: tuple[int, ...]) -> HeadPlaces:
    """The split of the leading axes by which all three are rows of their sources, or parts of
    them, as they stand; where none is, the likeliest.
    """
    first: HeadPlaces | None = None
    for batch in batches(lead, operands[0].source):
        heads = prod(lead) // batch
        kv_heads = heads // repeats(operands[1:], batch, heads)
        q, k, v = operands
        rows = (
            in_rows(q.places, batch, heads),
            in_rows(k.places, batch, kv_heads),
            in_rows(v.places, batch, kv_heads),
        )
        split = HeadPlaces(batch, heads, kv_heads, rows)
        if all(is_plain(x.source, r) for x, r in zip(operands, rows, strict=True)):
            return split
        first = first or split
    assert first is not None  # every product has a batch
    return first


def batches(lead: tuple[int, ...], source: Value) -> Iterator[int]:
    """Sizes of the batch among the leading axes, the likely ones first: the first of two axes; of
    one, or of more, what may be.
    """
    if len(lead) == 2:
        yield lead[0]
        return
    total = prod(lead)
    candidates = *(lead[:1] if len(lead) > 2 else ()), *source.type.shape[:1]
    yield from dict.fromkeys(b for b in (*candidates, *range(1, total + 1)) if b and total % b == 0)


def repeats(operands: list[Moved], batch: int, heads: int) -> int:
    """How many heads of q share each head of k and v."""
    best = 1
    for n in range(2, heads + 1):
        if heads % n == 0 and all(
            np.array_equal(p, np.repeat(p[:, ::n], n, 1))
            for x in operands
            for p in (x.places.reshape(batch, heads, -1),)
        ):
            best = n
    return best


def in_rows(places: Array, batch: int, heads: int) -> Array:
    """Places of heads (..., N, D) as (B, N, heads * D), each `heads` of them taken once."""
    n, d = places.shape[-2:]
    every = places.reshape(batch, -1, n, d)
    rows = every[:, :: every.shape[1] // heads]
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(batch, n, heads * d)


def is_plain(source: Value, rows: Array) -> bool:
    """Whether rows (B, N, C) are the source's own, or parts of them, in order."""
    if not source.type.rank:
        return False
    wide = source.type.shape[-1]
    if rows.size == source.type.size:
        return bool(np.array_equal(rows.reshape(-1), np.arange(rows.size)))
    flat = rows.reshape(-1, rows.shape[-1])
    steps = np.arange(len(flat))[:, None] * wide
    return len(flat) * wide == source.type.size and np.array_equal(flat, steps + flat[:1])
