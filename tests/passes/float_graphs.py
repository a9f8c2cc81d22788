"""Random float graphs as frontends write them: channels first, each windowed op between
transposes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Dequantize,
    Div,
    Expand,
    Gather,
    HardSigmoid,
    LeakyRelu,
    Linear,
    MatMul,
    Maximum,
    MaxPool,
    Mul,
    Neg,
    Pad,
    PadMode,
    Quantize,
    ReduceMax,
    ReduceMean,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Transpose,
)  # fmt: skip
from qir.ir.types import F32, U8, Quant, Tensor

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
SMALL = 600  # elements a value may have for another layer to read it


class FloatGraphs:
    """Draws one graph of `size` steps from a seed."""

    def __init__(self, seed: int, pairs: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder("random", "imported")
        self.pairs = pairs  # whether values are quantized and dequantized between

    def graph(self, size: int) -> Graph:
        n, c, h, w = (int(self.rng.integers(1, k)) for k in (3, 5, 7, 7))
        values = [self.builder.input("x", Tensor((n, c, h, w), F32))]
        for _ in range(size):
            x = values[int(self.rng.integers(max(0, len(values) - 3), len(values)))]
            made = self.step(x, values)
            if made is not None and 0 < made.type.size < SMALL:
                values.append(made)
        count = int(self.rng.integers(1, 3))
        return self.builder.finish(values[-count:], [f"y{i}" for i in range(len(values[-count:]))])

    def step(self, x: Value, values: list[Value]) -> Value | None:
        steps: list[Callable[[Value], Value | None]] = [
            self.unary, self.by_constant, self.transpose, self.reshape, self.slice, self.pad,
            self.reduce, self.written_out, lambda v: self.binary(v, values), self.gather,
        ]  # fmt: skip
        if self.pairs:
            steps += [self.pair] * 12
        if x.type.rank == 4:
            windows = [self.conv, self.conv, self.norm, self.pool, self.transposed, self.shuffle]
            steps = steps + windows + windows
        if x.type.rank == 2:
            steps += [self.linear] * 4
        return steps[int(self.rng.integers(len(steps)))](x)

    # -- pieces

    def add(self, op: Op) -> Value:
        return self.builder.add(op)

    def constant(self, *shape: int, positive: bool = False) -> Value:
        a = self.rng.uniform(0.5, 1.5, shape) if positive else self.rng.normal(0, 0.5, shape)
        return self.add(Constant.of(a.astype(np.float32)))

    def number(self, value: float) -> Value:
        return self.add(Constant.of(np.float32(value)))

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def last(self, x: Value, op: Callable[[Value], Op]) -> Value:
        """A channels-last op as a frontend writes it on channels-first x."""
        return self.add(Transpose(self.add(op(self.add(Transpose(x, TO_LAST)))), TO_FIRST))

    # -- steps

    def unary(self, x: Value) -> Value:
        makers: tuple[Callable[[], Op], ...] = (
            lambda: Relu(x), lambda: Sigmoid(x), lambda: Tanh(x), lambda: Neg(x),
            lambda: Clip(x, -1.0, 2.0), lambda: Clip(x, 0.0, 6.0), lambda: LeakyRelu(x, 0.1),
            lambda: HardSigmoid(x, 0.2, 0.5),
        )  # fmt: skip
        return self.add(self.one_of(*makers)())

    def by_constant(self, x: Value) -> Value:
        rank, shape = x.type.rank, x.type.shape
        channel = 1 if rank == 4 else rank - 1
        sizes = [1] * rank
        if rank:
            sizes[channel] = shape[channel]
        kind = self.one_of(Add, Sub, Mul, Div, Maximum)
        c = self.one_of(
            lambda: self.constant(*sizes, positive=True),
            lambda: self.number(self.one_of(0.0, 1.0, 3.0) if kind is not Div else 2.0),
        )()
        flip = kind in (Add, Mul, Sub) and self.rng.random() < 0.3
        return self.add(kind(c, x) if flip else kind(x, c))

    def binary(self, x: Value, values: list[Value]) -> Value | None:
        same = [v for v in values if v.type == x.type]
        other = self.one_of(*same)
        kind = self.one_of(Add, Add, Mul, Sub, "concat", "gate")
        if kind == "concat":
            return self.add(Concat((x, other), 1)) if x.type.rank > 1 else None
        if kind == "gate":
            axes = (2, 3) if x.type.rank == 4 else (x.type.rank - 1,)
            gate = self.add(Sigmoid(self.add(ReduceMean(x, axes, True)))) if x.type.rank else x
            return self.add(Mul(gate, other))
        return self.add(kind(x, other))

    def pair(self, x: Value) -> Value:
        to = Quant.per_tensor(U8, float(self.one_of(0.05, 0.1)), int(self.one_of(0, 128)))
        return self.add(Dequantize(self.add(Quantize(x, to, Rounding.HALF_EVEN))))

    def transpose(self, x: Value) -> Value:
        return self.add(Transpose(x, tuple(int(a) for a in self.rng.permutation(x.type.rank))))

    def reshape(self, x: Value) -> Value:
        s = x.type.shape
        if len(s) == 4:
            n, c, h, w = s
            choices = [
                (n, c * h * w),
                (n, c, h * w),
                (n * c, h, w),
                (n, c, h, w, 1),
                (n, 1, c, h, w),
            ]
        else:
            choices = [(x.type.size,), (*s[:1], x.type.size // max(1, s[0] if s else 1)), (*s, 1)]
        return self.add(Reshape(x, self.one_of(*choices)))

    def slice(self, x: Value) -> Value:
        start = tuple(int(self.rng.integers(0, s)) if s > 2 else 0 for s in x.type.shape)
        step = tuple(int(self.rng.integers(1, 3)) for _ in x.type.shape)
        return self.add(Slice(x, start, x.type.shape, step))

    def gather(self, x: Value) -> Value | None:
        if not x.type.rank:
            return None
        axis = int(self.rng.integers(x.type.rank))
        index = self.rng.integers(0, x.type.shape[axis], self.one_of((), (2,), (3,)))
        from qir.ir.data import Data

        return self.add(Gather(x, Data(index.astype(np.int64)), axis))

    def pad(self, x: Value) -> Value:
        before, after = (tuple(int(v) for v in self.rng.integers(0, 2, x.type.rank)) for _ in "ba")
        none = (0,) * x.type.rank
        value = self.one_of(0.0, 0.0, 1.0, -3.4e38)
        y = self.add(Pad(x, before, after, none, PadMode.CONSTANT, value))
        return self.add(Clip(y, -8.0, 8.0)) if value < -8 else y

    def reduce(self, x: Value) -> Value | None:
        axes = (2, 3) if x.type.rank == 4 else (x.type.rank - 1,)
        if not x.type.rank:
            return None
        return self.add(self.one_of(ReduceMean, ReduceMax)(x, axes, bool(self.rng.integers(2))))

    def written_out(self, x: Value) -> Value:
        kind = int(self.rng.integers(4))
        if kind == 0:
            gate = self.add(Clip(self.add(Add(x, self.number(3))), 0.0, 6.0))
            return self.add(Div(self.add(Mul(x, gate)), self.number(6)))
        if kind == 1:
            return self.add(Mul(x, self.add(Sigmoid(x))))
        if kind == 2:
            return self.add(Softmax(x)) if x.type.rank else x
        return self.add(Expand(x, (2, *x.type.shape))) if x.type.rank < 4 else x

    def conv(self, x: Value) -> Value | None:
        c, h, w = x.type.shape[1:]
        k, stride = int(self.rng.integers(1, 4)), int(self.rng.integers(1, 3))
        pad = tuple(int(p) for p in self.rng.integers(0, 2, 4))
        if min(h + pad[0] + pad[2], w + pad[1] + pad[3]) < k:
            return None
        groups = c if self.rng.random() < 0.3 else 1
        o = groups * int(self.rng.integers(1, 4))
        weights, bias = self.constant(o, k, k, c // groups), self.one_of(None, self.constant(o))
        return self.last(x, lambda t: Conv(t, weights, bias, (stride, stride), pad, (1, 1), groups))

    def transposed(self, x: Value) -> Value:
        c, o = x.type.shape[1], int(self.rng.integers(1, 3))
        k, stride = int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3))
        weights = self.constant(o, k, k, c)
        pad = (0, 0, 0, 0)
        return self.last(
            x,
            lambda t: ConvTranspose(t, weights, None, (stride, stride), pad, (0, 0), (1, 1), 1),
        )

    def norm(self, x: Value) -> Value:
        c = x.type.shape[1]
        gain, offset, mean = (self.constant(c) for _ in range(3))
        variance = self.constant(c, positive=True)
        return self.last(x, lambda t: BatchNorm(t, gain, offset, mean, variance, 1e-5))

    def pool(self, x: Value) -> Value | None:
        h, w = x.type.shape[2:]
        kernel = self.one_of((h, w), (min(2, h), min(2, w)))
        pad = (
            (kernel[0] // 2,) * 4 if kernel == (2, 2) and self.rng.random() < 0.3 else (0, 0, 0, 0)
        )
        if self.rng.random() < 0.5:
            return self.last(x, lambda t: MaxPool(t, kernel, kernel, pad, (1, 1)))
        count = bool(self.rng.integers(2))
        return self.last(x, lambda t: AvgPool(t, kernel, kernel, pad, (1, 1), count))

    def shuffle(self, x: Value) -> Value | None:
        n, c, h, w = x.type.shape
        if c % 2:
            return None
        wide = self.add(Reshape(x, (n, 2, c // 2, h, w)))
        return self.add(Reshape(self.add(Transpose(wide, (0, 2, 1, 3, 4))), (n, c, h, w)))

    def linear(self, x: Value) -> Value:
        i, o = x.type.shape[1], int(self.rng.integers(1, 5))
        if self.rng.random() < 0.5:
            return self.add(Linear(x, self.constant(o, i), self.one_of(None, self.constant(o))))
        return self.add(MatMul(x, self.constant(i, o)))
