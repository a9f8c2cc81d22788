"""Elementwise ops of two operands, broadcast as NumPy does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Value, op
from qir.ir.ops.accumulate import centred_extreme, float_or_quantized
from qir.ir.ops.kinds import Elementwise
from qir.ir.types import I32, Array, Quant, Tensor


@dataclass(frozen=True, repr=False)
class Binary(Elementwise):
    """An elementwise op of a and b, on floats. Shapes: a, b broadcast together -> y.

    neutral: the c of f(x, c) = x, if there is one; commutes: f(a, b) = f(b, a).
    """

    neutral: ClassVar[float | None] = None
    commutes: ClassVar[bool] = False

    a: Value
    b: Value

    def followers(self) -> tuple[Value, ...]:
        return tuple(v for v in self.operands if v.type.rank == self.result.type.rank)

    def broadcast_operands(self) -> tuple[Value, ...]:
        return tuple(v for v in self.operands if v.type.rank < self.result.type.rank)

    @property
    def shape(self) -> tuple[int, ...]:
        try:
            return np.broadcast_shapes(self.a.type.shape, self.b.type.shape)
        except ValueError:
            self.fail(
                f"a is {list(self.a.type.shape)}, b is {list(self.b.type.shape)}",
                "shapes that broadcast are needed",
            )

    def infer(self) -> Tensor:
        if float_or_quantized(self, self.a, self.b):
            self.fail(
                "operands are quantized", "floats are needed (to-integer makes requantize of this)"
            )
        return Tensor(self.shape, self.a.type.elem)


@op("add")
class Add(Binary):
    """y = a + b. Shapes: a, b broadcast -> y. As integers: requantize of both."""

    neutral: ClassVar[float | None] = 0.0
    commutes: ClassVar[bool] = True

    a: Value
    b: Value

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return a + b


@op("sub")
class Sub(Binary):
    """y = a - b. Shapes: a, b broadcast -> y. As integers: requantize of both, b negative."""

    neutral: ClassVar[float | None] = 0.0

    a: Value
    b: Value

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return a - b


@op("mul")
class Mul(Binary):
    """y = a * b; on quantized operands the exact i32 product (a - za) * (b - zb), of scale sa * sb,
    zero point 0.

    Shapes: a, b broadcast -> y. Quantized operands have one scale each.
    """

    neutral: ClassVar[float | None] = 1.0
    commutes: ClassVar[bool] = True
    accumulates: ClassVar[bool] = True

    a: Value
    b: Value

    def infer(self) -> Tensor:
        if not float_or_quantized(self, self.a, self.b):
            return Tensor(self.shape, self.a.type.elem)
        qa, qb = self.a.type.quant, self.b.type.quant
        if not (qa.is_per_tensor and qb.is_per_tensor):
            self.fail("operands are quantized per axis", "one scale each is needed")
        return Tensor(self.shape, Quant.per_tensor(I32, float(qa.scale.array * qb.scale.array), 0))

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return a * b

    def evaluate(self, a: Array, b: Array) -> Array:
        za, zb = (np.int32(v.type.quant.zero_point.array) for v in (self.a, self.b))
        return (a.astype(np.int32) - za) * (b.astype(np.int32) - zb)

    def bound(self, a: Bounds, b: Bounds) -> Bounds:
        return Bounds.centred(a, self.a.type).times(Bounds.centred(b, self.b.type))

    def extremes(self, a: Bounds, b: Bounds) -> Iterator[Extreme]:
        yield from centred_extreme(self.a, a)
        yield from centred_extreme(self.b, b)
        yield Extreme("product", self.bound(a, b), I32)


@op("div")
class Div(Binary):
    """y = a / b. Shapes: a, b broadcast -> y. On integers only by constants."""

    neutral: ClassVar[float | None] = 1.0

    a: Value
    b: Value

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return a / b


@op("maximum")
class Maximum(Binary):
    """y = max(a, b). Shapes: a, b broadcast -> y."""

    commutes: ClassVar[bool] = True

    a: Value
    b: Value

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return torch.maximum(a, b)


@op("minimum")
class Minimum(Binary):
    """y = min(a, b). Shapes: a, b broadcast -> y."""

    commutes: ClassVar[bool] = True

    a: Value
    b: Value

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return torch.minimum(a, b)


@op("pow")
class Pow(Binary):
    """y = a ** b. Shapes: a, b broadcast -> y."""

    neutral: ClassVar[float | None] = 1.0

    a: Value
    b: Value

    def compute(self, torch: Any, a: Any, b: Any) -> Any:
        return torch.pow(a, b)
