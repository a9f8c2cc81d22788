"""Functions of one real; of an 8-bit tensor each is a table (lookup), exact by definition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from qir.ir.op import Interval, Value, op
from qir.ir.ops.kinds import Elementwise
from qir.ir.types import Tensor


@dataclass(frozen=True, repr=False)
class Unary(Elementwise):
    """An elementwise function of x, on floats. Shapes: x (...) -> y (...)."""

    x: Value

    @property
    def is_pointwise(self) -> bool:
        return True

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def infer(self) -> Tensor:
        if not self.x.type.is_float:
            self.fail(
                f"x is {self.x.type.elem}", "floats are needed (to-integer makes a lookup of this)"
            )
        return self.x.type


class Clamp(Unary):
    """y = min(max(x, low), high), (low, high) = limits."""

    @property
    def limits(self) -> Interval:
        raise NotImplementedError(type(self).__name__)

    def reals(self, *operands: Interval) -> Interval:
        (x,), (low, high) = operands, self.limits
        return min(max(x[0], low), high), min(max(x[1], low), high)


@op("relu")
class Relu(Clamp):
    """y = max(x, 0)."""

    homogeneous: ClassVar[bool] = True

    x: Value

    @property
    def limits(self) -> Interval:
        return 0.0, math.inf

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.relu(x)


@op("clip")
class Clip(Clamp):
    """y = min(max(x, low), high); relu6 is clip to [0, 6]."""

    x: Value
    low: float
    high: float

    @property
    def limits(self) -> Interval:
        return self.low, self.high

    def compute(self, torch: Any, x: Any) -> Any:
        return x.clamp(self.low, self.high)


@op("leaky_relu")
class LeakyRelu(Unary):
    """y = x where x >= 0, else alpha * x."""

    homogeneous: ClassVar[bool] = True

    x: Value
    alpha: float

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.where(x >= 0, x, x * self.alpha)


@op("prelu")
class PRelu(Elementwise):
    """y = x where x >= 0, else slope * x. Shapes: x (...), slope broadcasts to x -> y (...)."""

    x: Value
    slope: Value

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def broadcast_operands(self) -> tuple[Value, ...]:
        return (self.slope,)

    def infer(self) -> Tensor:
        if not (self.x.type.is_float and self.slope.type.is_float):
            self.fail(
                f"x is {self.x.type.elem}, slope is {self.slope.type.elem}", "floats are needed"
            )
        return self.x.type

    def compute(self, torch: Any, x: Any, slope: Any) -> Any:
        return torch.where(x >= 0, x, x * slope)


@op("sigmoid")
class Sigmoid(Unary):
    """y = 1 / (1 + exp(-x))."""

    range: ClassVar[Interval] = (0.0, 1.0)
    range_is_open: ClassVar[bool] = True

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.sigmoid(x)


@op("tanh")
class Tanh(Unary):
    """y = tanh(x)."""

    range: ClassVar[Interval] = (-1.0, 1.0)
    range_is_open: ClassVar[bool] = True

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.tanh(x)


@op("hard_sigmoid")
class HardSigmoid(Unary):
    """y = min(max(alpha * x + beta, 0), 1)."""

    range: ClassVar[Interval] = (0.0, 1.0)

    x: Value
    alpha: float
    beta: float

    def compute(self, torch: Any, x: Any) -> Any:
        return (x * self.alpha + self.beta).clamp(0, 1)


@op("hard_swish")
class HardSwish(Unary):
    """y = x * min(max(x + 3, 0), 6) / 6."""

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return x * (x / 6 + 0.5).clamp(0, 1)


@op("silu")
class Silu(Unary):
    """y = x / (1 + exp(-x))."""

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return x * torch.sigmoid(x)


@op("gelu")
class Gelu(Unary):
    """y = x * Phi(x); or, `tanh`, x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))."""

    x: Value
    tanh: bool

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.nn.functional.gelu(x, approximate="tanh" if self.tanh else "none")


@op("elu")
class Elu(Unary):
    """y = gamma * x where x > 0, else gamma * alpha * (exp(x) - 1); selu has its own alpha and
    gamma.
    """

    x: Value
    alpha: float
    gamma: float

    def compute(self, torch: Any, x: Any) -> Any:
        return self.gamma * torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0)))


@op("softplus")
class Softplus(Unary):
    """y = log(1 + exp(x))."""

    range: ClassVar[Interval] = (0.0, math.inf)

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.nn.functional.softplus(x)


@op("exp")
class Exp(Unary):
    """y = exp(x)."""

    range: ClassVar[Interval] = (0.0, math.inf)

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.exp(x)


@op("log")
class Log(Unary):
    """y = log(x)."""

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.log(x)


@op("erf")
class Erf(Unary):
    """y = erf(x)."""

    range: ClassVar[Interval] = (-1.0, 1.0)

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.erf(x)


@op("sqrt")
class Sqrt(Unary):
    """y = sqrt(x)."""

    range: ClassVar[Interval] = (0.0, math.inf)

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.sqrt(x)


@op("rsqrt")
class Rsqrt(Unary):
    """y = 1 / sqrt(x)."""

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.rsqrt(x)


@op("reciprocal")
class Reciprocal(Unary):
    """y = 1 / x."""

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return 1 / x


@op("neg")
class Neg(Unary):
    """y = -x."""

    homogeneous: ClassVar[bool] = True

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return -x


@op("abs")
class Abs(Unary):
    """y = |x|."""

    range: ClassVar[Interval] = (0.0, math.inf)
    homogeneous: ClassVar[bool] = True

    x: Value

    def compute(self, torch: Any, x: Any) -> Any:
        return x.abs()


SELU = (1.67326319217681884765625, 1.05070102214813232421875)  # alpha, gamma: ONNX Selu
INFINITE = (-math.inf, math.inf)  # a clip that clips nothing
