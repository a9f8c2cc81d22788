"""Normalizations."""

from __future__ import annotations

from typing import Any, ClassVar

from qir.ir.op import Op, Value, op
from qir.ir.ops.kinds import Elementwise
from qir.ir.types import Tensor


@op("batch_norm")
class BatchNorm(Elementwise):
    """y[..., c] = (x[..., c] - mean[c]) / sqrt(variance[c] + epsilon) * gain[c] + offset[c]

    Shapes: x (..., C), gain, offset, mean, variance (C,) -> y (..., C). Folded into a neighbour by
            canonicalization.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    gain: Value
    offset: Value
    mean: Value
    variance: Value
    epsilon: float

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def infer(self) -> Tensor:
        for v in (self.gain, self.offset, self.mean, self.variance):
            if v.type.shape != self.x.type.shape[-1:]:
                self.fail(
                    f"{v} is {list(v.type.shape)}", f"{list(self.x.type.shape[-1:])} is needed"
                )
        return self.x.type

    def compute(self, torch: Any, x: Any, gain: Any, offset: Any, mean: Any, variance: Any) -> Any:
        return (x - mean) * (gain * torch.rsqrt(variance + self.epsilon)) + offset


@op("layer_norm")
class LayerNorm(Op):
    """y = (x - mean(x)) / sqrt(mean((x - mean(x))**2) + epsilon) * gain + offset, over the last
    axis.

    Shapes: x (..., C), gain, offset (C,) -> y (..., C).
    """

    last_axes: ClassVar[int] = 1

    x: Value
    gain: Value | None
    offset: Value | None
    epsilon: float

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def infer(self) -> Tensor:
        for v in (self.gain, self.offset):
            if v is not None and v.type.shape != self.x.type.shape[-1:]:
                self.fail(
                    f"{v} is {list(v.type.shape)}", f"{list(self.x.type.shape[-1:])} is needed"
                )
        return self.x.type

    def compute(self, torch: Any, x: Any, gain: Any, offset: Any) -> Any:
        return torch.nn.functional.layer_norm(x, x.shape[-1:], gain, offset, self.epsilon)
