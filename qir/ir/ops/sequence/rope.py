"""Rotary position embedding, on reals and in fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.fixed import Dyadic, wrong_ratios
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence.rows import check_rows
from qir.ir.types import I32, I64, Array, Quant, Tensor


@dataclass(frozen=True, repr=False)
class Rotation(Op):
    """What both forms share: each head of `size` channels has R / 2 pairs that are rotated by the
    angles of its token, the channels behind the first R stay as they are.

    Pairs are (c, c + R / 2), or (2c, 2c + 1) where `interleaved`:
        y1 = x1 * cos - x2 * sin;  y2 = x2 * cos + x1 * sin
    """

    last_axes: ClassVar[int] = 2

    x: Value
    cos: Value
    sin: Value

    def check(self, size: int) -> None:
        x, table = self.x.type, self.cos.type
        if x.rank < 2 or size < 1 or x.shape[-1] % size:
            self.fail(f"x is {x}, heads of {size}", "(..., N, heads * size) is needed")
        if self.sin.type != table or table.rank != 2 or table.shape[0] != x.shape[-2]:
            self.fail(f"cos is {table}, sin is {self.sin.type}", "both (N, R / 2) are needed")
        if not 1 <= 2 * table.shape[1] <= size:
            self.fail(f"cos is {table}", f"at most {size // 2} pairs are needed")


def paired(x: Any, size: int, pairs: int, interleaved: bool) -> tuple[Any, Any, Any]:
    """(x1, x2, rest) of each head: (..., N, heads, pairs) twice, and the channels that stay."""
    heads = x.reshape(*x.shape[:-1], -1, size)
    channels, rest = heads[..., : 2 * pairs], heads[..., 2 * pairs :]
    if interleaved:
        return channels[..., 0::2], channels[..., 1::2], rest
    return channels[..., :pairs], channels[..., pairs:], rest


@op("rope")
class Rope(Rotation):
    """Rotary position embedding of reals (`Rotation` has the formula).

    Shapes: x (..., N, heads * size), cos, sin (N, R / 2), R <= size -> y like x.
    Source: Su et al. 2021, arXiv:2104.09864; halves as in GPT-NeoX and LLaMA of Hugging Face.
    """

    x: Value
    cos: Value
    sin: Value
    size: int
    interleaved: bool

    def infer(self) -> Tensor:
        self.check(self.size)
        if not (self.x.type.is_float and self.cos.type.is_float):
            self.fail(f"x is {self.x.type}", "floats are needed (to-integer makes rope_fixed)")
        return self.x.type

    def compute(self, torch: Any, x: Any, cos: Any, sin: Any) -> Any:
        a, b, rest = paired(x, self.size, cos.shape[1], self.interleaved)
        cos, sin = cos[:, None], sin[:, None]
        one, two = a * cos - b * sin, b * cos + a * sin
        if self.interleaved:
            pair = torch.stack((one, two), -1).flatten(-2)
        else:
            pair = torch.cat((one, two), -1)
        return torch.cat((pair, rest), -1).reshape(x.shape)


@op("rope_fixed")
class RopeFixed(Rotation):
    """Rotary position embedding of stored integers: one rounding of each sum of two products.

    y = clip(((x1 * cos -+ x2 * sin) * mult + 2**(shift-1)) >> shift); channels that stay are
    multiplied by `one`, the greatest integer of cos and sin, in place of the sum.
    Shapes: x (..., N, heads * size) and cos, sin (N, R / 2), of at most 16 bits, zero point 0 -> y.
    Units:  ratio = scale of x * scale of cos / scale of y.
    """

    x: Value
    cos: Value
    sin: Value
    size: int
    interleaved: bool
    to: Quant
    ratio: Dyadic

    def infer(self) -> Tensor:
        self.check(self.size)
        for v in (self.x, self.cos):
            check_rows(self, v, 16)
        if not (self.to.is_per_tensor and self.to.zero_point.item() == 0):
            self.fail(f"y is {self.to}", "one scale and zero point 0 are needed")
        if not (self.ratio.mult.is_scalar and self.ratio.shift.is_scalar):
            self.fail(f"ratio of shape {self.ratio.mult.shape}", "one number is needed")
        return Tensor(self.x.type.shape, self.to)

    def faults(self) -> Iterator[str]:
        product_scale = self.x.type.quant.scale.array * self.cos.type.quant.scale.array
        ratios = [np.asarray(product_scale / self.to.scale.array)]
        for _, actual, expected in wrong_ratios(
            [self.ratio.mult.array], self.ratio.shift.array, ratios
        ):
            yield f"{self}: ratio is {actual:g}, the scales need {expected:g}"

    @property
    def one(self) -> int:
        """1.0 as cos and sin store it."""
        return int(np.floor(1.0 / self.cos.type.quant.scale.item() + 0.5))

    def evaluate(self, x: Array, cos: Array, sin: Array) -> Array:
        a, b, rest = paired(x.astype(np.int64), self.size, cos.shape[1], self.interleaved)
        cos, sin = (t.astype(np.int64)[:, None] for t in (cos, sin))
        total = np.empty(x.shape, np.int64)
        one, two, still = paired(total, self.size, cos.shape[2], self.interleaved)  # views
        one[...], two[...] = a * cos - b * sin, b * cos + a * sin
        still[...] = rest * self.one
        mult, shift = self.ratio.mult.array, self.ratio.shift.array
        y = (total * mult + (np.int64(1) << (shift - 1))) >> shift
        storage = self.to.storage
        return stored(np.clip(y, storage.min, storage.max), self.result.type)

    def extremes(self, x: Bounds, cos: Bounds, sin: Bounds) -> Iterator[Extreme]:
        x = x.forgotten
        terms = x.times(cos.forgotten).with_zero(), x.times(sin.forgotten).with_zero()
        low = min(terms[0].ends[0] - terms[1].ends[1], terms[0].ends[0] + terms[1].ends[0])
        high = max(terms[0].ends[1] - terms[1].ends[0], terms[0].ends[1] + terms[1].ends[1])
        still = x.scaled(self.one)
        total = Bounds.of(low, high).join(still)
        yield Extreme("sum of two products", total, I32)
        half = 1 << int(self.ratio.shift.array) - 1
        scaled = total.scaled(int(self.ratio.mult.array)).with_zero().plus(Bounds.of(0, half))
        yield Extreme("scaled sum", scaled, I64)
