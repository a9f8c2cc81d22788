"""The kernel of attention_fixed: a row of scores at a time, never a matrix of them.

    attention(views: AttentionViews, numbers: AttentionNumbers, features)

Arguments ("q", "scale", "k", "v", ["bias",] ["visible",] ["start",] "constants", "y"). The meaning
is that of qir.ir.ops.sequence.attention.AttentionFixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qir.backends.kernels.dots import AVX2_WIDE, SDOT, VNNI512
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View
from qir.ir import rows
from qir.ir.ops.sequence.attention import EXP2
from qir.ir.ops.sequence.rows import MULT_BITS


@dataclass(frozen=True)
class AttentionViews:
    """q (B, N, heads * D), scale (B, N, heads), k (B, M, kv_heads * D), v (B, M, kv_heads * E);
    bias, visible (B | 1, heads | 1, N | 1, M | 1); start (); y (B, N, heads * E).
    """

    q: View
    scale: View
    k: View
    v: View
    bias: View | None
    visible: View | None
    start: View | None
    y: View


@dataclass(frozen=True)
class AttentionNumbers:
    """Those of attention_fixed; `bias`: its multiplier and shift, `constant_bias`: whether its
    elements are a constant's; `exponent`: the proven greatest of those of scales.
    """

    heads: int
    kv_heads: int
    causal: bool
    window: int
    mult: int
    shift: int
    bias: tuple[int, int] | None
    constant_bias: bool = False
    exponent: int = 1 << 23


@dataclass(frozen=True)
class AttentionCode(NestCode):
    """The nest walks batch, heads and queries; its operands: q, scale, k, v, bias, visible, the
    number of the query, y.

    keys      M
    sizes     D, E: channels of a head of q and k, of v and y
    pitches   of k, v, bias and visible from key to key
    steps     of q, k, v, y from channel to channel
    """

    dtypes: tuple[str, str, str]
    bias: str | None
    constant_bias: bool
    visible: str | None
    start: str | None
    keys: int
    sizes: tuple[int, int]
    pitches: tuple[int, int, int, int]
    steps: tuple[int, int, int, int]
    causal: bool
    window: int
    nest: Nest

    @property
    def arguments(self) -> tuple[str, ...]:
        others = {"bias": self.bias, "visible": self.visible, "start": self.start}
        optional = (name for name, dtype in others.items() if dtype is not None)
        return ("q", "scale", "k", "v", *optional, "constants", "y")

    @property
    def fields(self) -> Fields:
        entries = [("exp2", "int32", len(EXP2)), ("seeds", "int32", len(rows.SEEDS))]
        entries += [("mult", "int64", 1), ("shift", "int32", 1)]
        entries += [("bias", "int64", 2)] if self.bias else []
        return Fields(tuple(entries))


def attention(views: AttentionViews, numbers: AttentionNumbers, features: frozenset[str]) -> Kernel:
    """Attention on the machine's vectors, or by plain loops for any strides."""
    plain, strides, shape = plan_attention(views, numbers)
    is_high = numbers.shift - numbers.exponent >= 32 - LEFT
    code = vectorized(plain, strides, shape, features, is_high) or plain
    values = {
        "exp2": EXP2,
        "halves": EXP2,
        "seeds": rows.SEEDS,
        "mult": np.int64(numbers.mult),
        "shift": np.int64(numbers.shift),
        "bias": np.array(numbers.bias or (0, 0), np.int64),
    }
    return Kernel(code, code.fields.pack(values))  # type: ignore[arg-type]


Sizes = tuple[int, int, int, int]


def plan_attention(
    views: AttentionViews, numbers: AttentionNumbers
) -> tuple[AttentionCode, tuple[Sizes, ...], Sizes]:
    """The loops over (B, kv_heads, heads / kv_heads, N), a query of a head each; the strides of
    their operands, and their sizes.
    """
    kv, repeat = numbers.kv_heads, numbers.heads // numbers.kv_heads
    b, n, _ = views.q.shape
    keys = views.k.shape[1]
    sizes = views.q.shape[2] // numbers.heads, views.v.shape[2] // kv

    def queries(view: View, size: int) -> Sizes:
        batch, token, step = view.strides
        return batch, repeat * size * step, size * step, token

    def cache(view: View, size: int) -> Sizes:
        return view.strides[0], size * view.strides[2], 0, 0

    def spread(view: View | None) -> tuple[Sizes, int]:
        if view is None:
            return (0, 0, 0, 0), 0
        batch, head, token, key = view.expanded((b, numbers.heads, n, keys)).strides
        return (batch, repeat * head, head, token), key

    (bias, bias_pitch), (visible, visible_pitch) = spread(views.bias), spread(views.visible)
    strides = (
        queries(views.q, sizes[0]), queries(views.scale, 1), cache(views.k, sizes[0]),
        cache(views.v, sizes[1]), bias, visible, queries(views.y, sizes[1]),
    )  # fmt: skip
    shape = b, kv, repeat, n
    loops = nest(shape, (*strides[:-1], (0, 0, 0, 1), strides[-1]), grain=1)
    dtypes = [v.dtype if v else None for v in (views.bias, views.visible, views.start)]
    code = AttentionCode(
        (views.q.dtype, views.k.dtype, views.v.dtype), dtypes[0], numbers.constant_bias, dtypes[1],
        dtypes[2], keys, sizes,
        (views.k.strides[1], views.v.strides[1], bias_pitch, visible_pitch),
        (views.q.strides[2], views.k.strides[2], views.v.strides[2], views.y.strides[2]),
        numbers.causal, numbers.window, loops,
    )  # fmt: skip
    return code, strides, shape


@dataclass(frozen=True)
class AttentionDots:
    """How a machine adds products of attention: `depth` of them to each of `lanes` int32.

    Scores and sums of values take so many rows at once as `rows` says; values come in pieces of
    `piece` channels. `in_pairs`: every second lane is multiplied into 64 bits.
    """

    name: str
    needs: frozenset[str]
    lanes: int
    depth: int
    rows: int
    piece: int
    in_pairs: bool = True


PRODUCTS = (
    AttentionDots("vnni512", VNNI512.needs, 16, 4, 6, 64),
    AttentionDots("vnni512_halves", VNNI512.needs, 16, 4, 8, 32),
    AttentionDots("words256", AVX2_WIDE.needs, 8, 2, 4, 16),
    AttentionDots("sdot", SDOT.needs, 4, 4, 4, 16, in_pairs=False),
)
"""Best first."""

SCRATCH = 1 << 18  # bytes on the stack, at most
NEAR_SCRATCH = 1 << 16  # those that a second-level cache holds beside keys and values
MOST_ROWS = 16
LEFT = 31 - MULT_BITS  # by which multipliers of scores can be shifted to the left
MOST_CHANNELS = 512  # of a head: sums times the mantissa of a scale fit 32 bits


@dataclass(frozen=True)
class VectorAttentionCode:
    """One unit is `tokens` queries of all heads that share keys; scores and probabilities of them
    are kept on the stack. With `is_high`, multipliers of scores are shifted to the left by LEFT,
    and the high words of products are enough.

    `strides`: of q, scale, k, v, bias, visible, y along batch, kv_heads, the heads that share
    keys, and queries. `plain` has all else.
    """

    products: str
    plain: AttentionCode
    shape: Sizes
    strides: tuple[Sizes, ...]
    tokens: int
    is_high: bool = False

    @property
    def machine(self) -> AttentionDots:
        return next(p for p in PRODUCTS if p.name == self.products)

    @property
    def blocks(self) -> int:
        """Of queries; the last moves back until it fits."""
        return -(-self.shape[3] // self.tokens)

    @property
    def rows(self) -> int:
        """Queries of all heads in a unit."""
        return self.shape[2] * self.tokens

    @property
    def span(self) -> int:
        """Keys whose probabilities are found at once."""
        return 2 * self.machine.lanes

    @property
    def row_keys(self) -> int:
        """Keys of a row of scores."""
        return -(-self.plain.keys // self.span) * self.span

    @property
    def units(self) -> int:
        return self.shape[0] * self.shape[1] * self.blocks

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.plain.arguments

    @property
    def fields(self) -> Fields:
        return self.plain.fields + Fields((("halves", "uint16", len(EXP2)),))


def vectorized(
    code: AttentionCode, strides: tuple[Sizes, ...], shape: Sizes, features: frozenset[str],
    is_high: bool,
) -> VectorAttentionCode | None:  # fmt: skip
    """The same on vectors, where the machine has them and channels are adjacent."""
    d, e = code.sizes
    straight = code.steps == (1, 1, 1, 1) and set(code.pitches[2:]) <= {0, 1}
    for products in PRODUCTS:
        fits = d % 8 == 0 and e % products.piece == 0 and d <= MOST_CHANNELS
        if not (straight and fits and products.needs <= features):
            continue
        if set(code.dtypes) != {"int8"}:
            continue
        vector_code = VectorAttentionCode(products.name, code, shape, strides, 1, is_high)
        each = shape[2] * vector_code.row_keys * 6
        if each > SCRATCH:
            continue
        for tokens in (4, 2):
            is_near = tokens * each <= NEAR_SCRATCH and tokens * shape[2] <= MOST_ROWS
            if tokens <= shape[3] and is_near:
                return replace(vector_code, tokens=tokens)
        return vector_code
    return None
