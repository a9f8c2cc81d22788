"""Matrix products: by constant weights, and of two activations."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Value, op
from qir.ir.ops.accumulate import (
    accumulator,
    centred_extreme,
    contraction_bound,
    contraction_extremes,
    exact_matmul,
)
from qir.ir.ops.kinds import Contraction, Layer
from qir.ir.types import I32, Array, Quant, Tensor


@op("linear")
class Linear(Layer):
    """acc[..., o] = bias[o] + sum over i of (x[..., i] - zx) * (w[o, i] - zw); on floats zx = zw =
    0.

    On quantized operands the exact i32 accumulator, of scale sx * sw and zero point 0.
    Shapes: x (..., I), w (O, I), bias (O,) -> (..., O).
    Needs:  the accumulator fits i32; proven from the actual weights (bound).
    """

    last_axes: ClassVar[int] = 1

    x: Value
    w: Value
    bias: Value | None

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def infer(self) -> Tensor:
        x, w = self.x.type, self.w.type
        if w.rank != 2 or x.rank < 1 or x.shape[-1] != w.shape[1]:
            self.fail(
                f"x is {list(x.shape)}, w is {list(w.shape)}", "x (..., I) and w (O, I) are needed"
            )
        if self.bias is not None and self.bias.type.shape != w.shape[:1]:
            self.fail(f"bias is {list(self.bias.type.shape)}", f"[{w.shape[0]}] is needed")
        elem = accumulator(self, self.x, self.w, self.bias, out_axis=x.rank - 1)
        return Tensor((*x.shape[:-1], w.shape[0]), elem)

    def compute(self, torch: Any, x: Any, w: Any, bias: Any) -> Any:
        return torch.nn.functional.linear(x, w, bias)

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        (_, zx), (_, zw) = (v.type.quant.spread(v.type.shape) for v in (self.x, self.w))
        rows = (x.astype(np.int32) - zx.astype(np.int32)).reshape(prod(x.shape[:-1]), x.shape[-1])
        columns = w.astype(np.int32) - zw.astype(np.int32)
        acc = exact_matmul(rows, columns.T, _reach(self.x) * _reach(self.w) * x.shape[-1])
        acc = acc.reshape(self.result.type.shape)
        return acc if bias is None else acc + bias.astype(np.int32)

    def bound(self, x: Any, w: Any, bias: Any) -> Bounds:
        return contraction_bound(self.x, self.w, self.bias, x, w, bias, padded=False)

    def extremes(self, x: Any, w: Any, bias: Any) -> Iterator[Extreme]:
        yield from contraction_extremes(self.x, self.w, self.bias, x, w, bias, padded=False)


def _reach(value: Value) -> int:
    """A bound on |stored - zero_point| from the storage alone."""
    storage = value.type.quant.storage
    return 2 * max(abs(storage.min), storage.max)


@op("matmul")
class MatMul(Contraction):
    """acc[..., m, n] = sum over k of (a[..., m, k] - za) * (b[..., k, n] - zb); on floats za = zb =
    0.

    On quantized operands (both per tensor) the exact i32 accumulator, of scale sa * sb and zero
    point 0.
    Shapes: a (..., M, K), b (..., K, N), leading axes broadcast -> (..., M, N).
    Needs:  K * max|a - za| * max|b - zb| < 2**31; proven from the operands' bounds.
    """

    last_axes: ClassVar[int] = 2
    has_parameters: ClassVar[bool] = False

    a: Value
    b: Value

    def followers(self) -> tuple[Value, ...] | None:
        return (self.a, self.b) if self.a.type.rank == self.b.type.rank else None

    def batch_fault(self, batch: int) -> str | None:
        if self.a.type.rank == self.b.type.rank == 2:
            return None  # rows are samples; a b of samples changes the result's columns
        if self.a.type.rank == 2 or self.result.type.shape[0] != batch:
            return "matmul does not start with the batch"
        return None

    def infer(self) -> Tensor:
        a, b = self.a.type, self.b.type
        if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
            self.fail(
                f"a has K = {a.shape[-1:]}, b has K = {b.shape[-2:-1]}",
                "one K, and ranks of at least 2, are needed",
            )
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            self.fail(
                f"a is {list(a.shape)}, b is {list(b.shape)}",
                "leading axes that broadcast are needed",
            )
        if isinstance(b.elem, Quant) and not b.elem.is_per_tensor:
            self.fail(f"b is quantized along axis {b.elem.axis}", "one scale is needed")
        return Tensor(
            (*batch, a.shape[-2], b.shape[-1]), accumulator(self, self.a, self.b, None, out_axis=0)
        )

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return torch.matmul(a, b)

    def evaluate(self, a: Array, b: Array) -> Array:
        za, zb = (int(v.type.quant.zero_point.array) for v in (self.a, self.b))
        bound = _reach(self.a) * _reach(self.b) * a.shape[-1]
        return exact_matmul(a.astype(np.int32) - za, b.astype(np.int32) - zb, bound)

    def bound(self, a: Bounds, b: Bounds) -> Bounds:
        pairs = ((a, self.a), (b, self.b))
        p, q = (Bounds.centred(x, v.type).forgotten for x, v in pairs)
        return p.times(q).with_zero().scaled(self.a.type.shape[-1])

    def extremes(self, a: Bounds, b: Bounds) -> Iterator[Extreme]:
        yield from centred_extreme(self.a, a)
        yield from centred_extreme(self.b, b)
        yield Extreme("accumulator", self.bound(a, b), I32)
