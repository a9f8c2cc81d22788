"""The kernel of attention_fixed: a row of scores at a time, never a matrix of them.

    attention(views: AttentionViews, numbers: AttentionNumbers, features)

Arguments ("q", "scale", "k", "v", ["bias",] ["visible",] ["start",] "constants", "y"). The meaning
is that of qir.ir.ops.sequence.attention.AttentionFixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.nest import Nest, nest
from qir.backends.kernels.view import View
from qir.ir import rows
from qir.ir.ops.sequence.attention import EXP2


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
    elements are a constant's.
    """

    heads: int
    kv_heads: int
    causal: bool
    window: int
    mult: int
    shift: int
    bias: tuple[int, int] | None
    constant_bias: bool = False


@dataclass(frozen=True)
class AttentionCode:
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
    def units(self) -> int:
        return self.nest.units

    @property
    def arguments(self) -> tuple[str, ...]:
        others = {"bias": self.bias, "visible": self.visible, "start": self.start}
        given = (name for name, dtype in others.items() if dtype is not None)
        return ("q", "scale", "k", "v", *given, "constants", "y")

    @property
    def fields(self) -> Fields:
        entries = [("exp2", "int32", len(EXP2)), ("seeds", "int32", len(rows.SEEDS))]
        entries += [("mult", "int64", 1), ("shift", "int32", 1)]
        entries += [("bias", "int64", 2)] if self.bias else []
        return Fields(tuple(entries))


def attention(views: AttentionViews, numbers: AttentionNumbers) -> Kernel:
    """Attention by plain loops, for any machine and any strides."""
    code = plan_attention(views, numbers)
    values = {
        "exp2": EXP2,
        "seeds": rows.SEEDS,
        "mult": np.int64(numbers.mult),
        "shift": np.int64(numbers.shift),
        "bias": np.array(numbers.bias or (0, 0), np.int64),
    }
    return Kernel(code, code.fields.pack(values))  # type: ignore[arg-type]


def plan_attention(views: AttentionViews, numbers: AttentionNumbers) -> AttentionCode:
    """The loops over (B, kv_heads, heads / kv_heads, N), a query of a head each."""
    kv, repeat = numbers.kv_heads, numbers.heads // numbers.kv_heads
    b, n, _ = views.q.shape
    keys = views.k.shape[1]
    sizes = views.q.shape[2] // numbers.heads, views.v.shape[2] // kv

    def queries(view: View, size: int) -> tuple[int, ...]:
        batch, token, step = view.strides
        return batch, repeat * size * step, size * step, token

    def cache(view: View, size: int) -> tuple[int, ...]:
        return view.strides[0], size * view.strides[2], 0, 0

    def spread(view: View | None) -> tuple[tuple[int, ...], int]:
        if view is None:
            return (0, 0, 0, 0), 0
        batch, head, token, key = view.expanded((b, numbers.heads, n, keys)).strides
        return (batch, repeat * head, head, token), key

    (bias, bias_pitch), (visible, visible_pitch) = spread(views.bias), spread(views.visible)
    loops = nest(
        (b, kv, repeat, n),
        (
            queries(views.q, sizes[0]), queries(views.scale, 1), cache(views.k, sizes[0]),
            cache(views.v, sizes[1]), bias, visible, (0, 0, 0, 1), queries(views.y, sizes[1]),
        ),
        grain=1,
    )  # fmt: skip
    dtypes = [v.dtype if v else None for v in (views.bias, views.visible, views.start)]
    return AttentionCode(
        (views.q.dtype, views.k.dtype, views.v.dtype), dtypes[0], numbers.constant_bias, dtypes[1],
        dtypes[2], keys, sizes,
        (views.k.strides[1], views.v.strides[1], bias_pitch, visible_pitch),
        (views.q.strides[2], views.k.strides[2], views.v.strides[2], views.y.strides[2]),
        numbers.causal, numbers.window, loops,
    )  # fmt: skip
