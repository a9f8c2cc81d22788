"""Random float graphs as frontends write them: channels first, each windowed op between
transposes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Abs,
    Add,
    AvgPool,
    BatchNorm,
    Bilinear,
    Clip,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Dequantize,
    Div,
    Elu,
    Expand,
    Gather,
    Gelu,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    MatMul,
    Maximum,
    MaxPool,
    Minimum,
    Mul,
    Neg,
    Pad,
    PadMode,
    PRelu,
    Quantize,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Relu,
    Reshape,
    Sigmoid,
    Silu,
    Slice,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
    Transpose,
)  # fmt: skip
from qir.ir.types import F32, I8, U8, Quant, Tensor
from tests.passes.written_out import halves, written_out

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
SMALL = 2000  # elements a value may have for another layer to read it


class FloatGraphs:
    """Draws one graph of `size` steps from a seed."""

    def __init__(self, seed: int, pairs: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder("random", "imported")
        self.pairs = pairs  # whether values are quantized and dequantized between

    def graph(self, size: int) -> Graph:
        n, h, w = (int(self.rng.integers(1, k)) for k in (3, 7, 7))
        c = self.one_of(1, 2, 3, 4, 4, 9, 16)
        self.values = [self.builder.input("x", Tensor((n, c, h, w), F32))]
        others = (n, c, h, w), (n, 1, h, w), (1, c, 1, 1), (n, c), (h, w), (c,), (w,), ()
        for i in range(self.one_of(0, 0, 1, 2)):
            self.values.append(self.input(f"x{i}", *self.one_of(*others)))
        for _ in range(size):
            x = self.values[int(self.rng.integers(max(0, len(self.values) - 3), len(self.values)))]
            made = self.step(x)
            if made is not None and made.type.size < SMALL and (made.type.size or self.chance(0.3)):
                self.values.append(made)
        outputs = self.values[-int(self.rng.integers(1, 3)) :]
        while self.chance(0.4):  # values that others read too, inputs and outputs among them
            outputs.append(self.one_of(*self.values))
        return self.builder.finish(outputs, [f"y{i}" for i in range(len(outputs))])

    def step(self, x: Value) -> Value | None:
        steps: list[Callable[[Value], Value | None]] = [
            self.unary, self.unary, self.by_constant, self.by_constant, self.transpose,
            self.transpose, self.reshape, self.reshape, self.slice, self.pad, self.reduce,
            partial(written_out, self), partial(written_out, self), self.binary, self.binary,
            self.gather, self.expand,
            self.product, self.broadcast, self.normalize,
        ]  # fmt: skip
        if self.pairs:
            steps += [self.pair] * 12
        if x.type.rank == 4:
            windows = [
                self.conv, self.conv, self.conv, self.norm, self.pool, self.pool, self.transposed,
                self.shuffle, self.resize,
            ]  # fmt: skip
            steps = steps + windows + windows
        if x.type.rank == 2:
            steps += [self.linear] * 4
        return steps[int(self.rng.integers(len(steps)))](x)

    # -- pieces

    def add(self, op: Op) -> Value:
        return self.builder.add(op)

    def input(self, name: str, *shape: int) -> Value:
        return self.builder.input(name, Tensor(shape, F32))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def weights(self, *shape: int) -> Value:
        """Mostly a constant; or one dequantized, with a scale for all, for each slice of an axis or
        for blocks along it; or an input of the graph.
        """
        kind = self.rng.random()
        if kind < 0.08:
            return self.input("w", *shape)
        if (kind < 0.75 and not self.pairs) or not all(shape):
            return self.constant(*shape)
        stored = self.rng.integers(-128, 128, shape)
        axis = int(self.rng.integers(len(shape)))
        match self.one_of("tensor", "first", "axis", "block"):
            case "tensor":
                quant = Quant.per_tensor(I8, 0.01, 0)
            case "first":
                quant = Quant.per_axis(I8, self.rng.uniform(0.002, 0.02, shape[0]), 0, 0)
            case "axis":
                quant = Quant.per_axis(I8, self.rng.uniform(0.002, 0.02, shape[axis]), 0, axis)
            case _:
                block = self.one_of(*(b for b in range(1, shape[axis] + 1) if not shape[axis] % b))
                size = (*shape[:axis], shape[axis] // block, *shape[axis + 1 :])
                scale = Data(self.rng.uniform(0.002, 0.02, size))
                quant = Quant(I8, scale, Data(np.zeros(size, np.int64)), axis, block)
        return self.add(Dequantize(self.add(Constant.of(stored, quant))))

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
            lambda: HardSigmoid(x, 0.2, 0.5), lambda: Silu(x), lambda: HardSwish(x),
            lambda: Gelu(x, bool(self.rng.integers(2))), lambda: Elu(x, 1.0, 1.0), lambda: Abs(x),
            lambda: Softplus(x),
        )  # fmt: skip
        if x.type.rank and self.chance(0.1):
            return self.add(PRelu(x, self.constant(self.one_of(1, x.type.shape[-1]))))
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

    def binary(self, x: Value) -> Value | None:
        same = [v for v in self.values if v.type == x.type]
        other = self.one_of(*same)
        kind = self.one_of(Add, Add, Mul, Sub, "concat", "gate")
        if kind == "concat":
            axis = int(self.rng.integers(max(1, x.type.rank)))
            return self.add(Concat((x, other), axis)) if x.type.rank else None
        if kind == "gate":
            axes = (2, 3) if x.type.rank == 4 else (x.type.rank - 1,)
            gate = self.add(Sigmoid(self.add(ReduceMean(x, axes, True)))) if x.type.rank else x
            return self.add(Mul(gate, other))
        return self.add(kind(x, other))

    def broadcast(self, x: Value) -> Value | None:
        """An op of values of different shape or rank."""
        fits = [v for v in self.values if broadcasts(v, x)]
        kind = self.one_of(Add, Mul, Sub, Maximum, Minimum)
        other = self.one_of(*fits)
        return self.add(kind(other, x) if self.chance(0.5) else kind(x, other))

    def product(self, x: Value) -> Value | None:
        """A product of two values, of 2 axes or more."""
        if x.type.rank < 2:
            return None
        k = x.type.shape[-1]
        fits = [v for v in self.values if v.type.rank >= 2 and v.type.shape[-2] == k]
        fits = [v for v in fits if broadcasts_leading(v, x)]
        if fits and self.chance(0.5):
            return self.add(MatMul(x, self.one_of(*fits)))
        rank = x.type.rank
        turned = self.add(Transpose(x, (*range(rank - 2), rank - 1, rank - 2)))
        return self.add(MatMul(x, turned) if self.chance(0.5) else MatMul(turned, x))

    def expand(self, x: Value) -> Value:
        shape = [int(self.rng.integers(1, 4)) if s == 1 else s for s in x.type.shape]
        if x.type.rank < 4 and self.chance(0.3):
            shape.insert(0, int(self.rng.integers(1, 3)))
        return self.add(Expand(x, tuple(shape)))

    def normalize(self, x: Value) -> Value | None:
        """A layer norm, whole or written out."""
        if not x.type.rank or not x.type.size:
            return None
        c = x.type.shape[-1]
        if self.chance(0.5):
            gain, offset = (self.one_of(None, self.constant(c)) for _ in range(2))
            return self.add(LayerNorm(x, gain, offset, 1e-5))
        last = (x.type.rank - 1,)
        centred = self.add(Sub(x, self.add(ReduceMean(x, last, True))))
        variance = self.add(ReduceMean(self.add(Mul(centred, centred)), last, True))
        deviation = self.add(Sqrt(self.add(Add(variance, self.number(1e-5)))))
        return self.add(Mul(self.add(Div(centred, deviation)), self.constant(c)))

    def resize(self, x: Value) -> Value | None:
        """To twice the size, channels first."""
        if not x.type.size:
            return None
        (rows, u), (columns, v) = (halves(s) for s in x.type.shape[2:])
        return self.last(x, lambda t: Bilinear(t, rows, columns, u, v))

    def pair(self, x: Value) -> Value:
        to = Quant.per_tensor(U8, float(self.one_of(0.05, 0.1)), int(self.one_of(0, 128)))
        if x.type.rank and self.chance(0.15):  # a scale for each slice of an axis
            axis = int(self.rng.integers(x.type.rank))
            scales = self.rng.uniform(0.05, 0.1, x.type.shape[axis])
            to = Quant.per_axis(U8, scales, self.rng.integers(0, 256, len(scales)), axis)
        rounding = self.one_of(Rounding.HALF_EVEN, Rounding.HALF_EVEN, *Rounding)
        return self.add(Dequantize(self.add(Quantize(x, to, rounding))))

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
            rest = (*s[:1], x.type.size // max(1, s[0] if s else 1)) if x.type.size else s
            choices = [(x.type.size,), rest, (*s, 1)]
        return self.add(Reshape(x, self.one_of(*choices)))

    def slice(self, x: Value) -> Value:
        start = tuple(int(self.rng.integers(0, s)) if s > 2 else 0 for s in x.type.shape)
        step = tuple(int(self.rng.integers(1, 3)) for _ in x.type.shape)
        stop = [s - int(self.rng.integers(0, 2)) if s - a > 1 else s
                for a, s in zip(start, x.type.shape, strict=True)]  # fmt: skip
        if x.type.rank and self.chance(0.1):  # nothing along one axis
            axis = int(self.rng.integers(x.type.rank))
            stop[axis] = start[axis]
        return self.add(Slice(x, start, tuple(stop), step))

    def gather(self, x: Value) -> Value | None:
        if not x.type.rank:
            return None
        axis = int(self.rng.integers(x.type.rank))
        if not x.type.shape[axis]:
            return None
        index = self.rng.integers(0, x.type.shape[axis], self.one_of((), (2,), (3,), (2, 2)))
        return self.add(Gather(x, Data(index.astype(np.int64)), axis))

    def pad(self, x: Value) -> Value:
        before, after = (tuple(int(v) for v in self.rng.integers(0, 2, x.type.rank)) for _ in "ba")
        none = (0,) * x.type.rank
        value = self.one_of(0.0, 0.0, 1.0, -3.4e38)
        y = self.add(Pad(x, before, after, none, PadMode.CONSTANT, value))
        return self.add(Clip(y, -8.0, 8.0)) if value < -8 else y

    def reduce(self, x: Value) -> Value | None:
        axes = (2, 3) if x.type.rank == 4 else (x.type.rank - 1,)
        if not x.type.rank or not x.type.size:
            return None
        if self.chance(0.4):
            count = int(self.rng.integers(1, x.type.rank + 1))
            axes = tuple(int(a) for a in self.rng.permutation(x.type.rank)[:count])
        kind = self.one_of(ReduceMean, ReduceMax, ReduceSum)
        return self.add(kind(x, axes, bool(self.rng.integers(2))))

    def conv(self, x: Value) -> Value | None:
        c, h, w = x.type.shape[1:]
        k, stride, d = (int(self.rng.integers(1, n)) for n in (4, 3, 3))
        pad = tuple(int(p) for p in self.rng.integers(0, d + 1, 4))
        if min(h + pad[0] + pad[2], w + pad[1] + pad[3]) < d * (k - 1) + 1 or not c:
            return None
        groups = self.one_of(1, 1, c, *(g for g in range(1, c + 1) if not c % g))
        o = groups * int(self.rng.integers(1, 4 if c < 8 else 2))
        weights, bias = self.weights(o, k, k, c // groups), self.one_of(None, self.constant(o))
        return self.last(x, lambda t: Conv(t, weights, bias, (stride,) * 2, pad, (d, d), groups))

    def transposed(self, x: Value) -> Value:
        c, o = x.type.shape[1], int(self.rng.integers(1, 3))
        k, stride, d = int(self.rng.integers(1, 4)), int(self.rng.integers(1, 3)), self.one_of(1, 2)
        groups = self.one_of(1, 1, c) if c else 1
        weights, bias = self.weights(o * groups, k, k, c // groups), self.constant(o * groups)
        pad = tuple(int(p) for p in self.rng.integers(0, 1 + d * (k - 1) // 2, 4))
        extra = (int(self.rng.integers(stride)), 0)
        if min(x.type.shape[2:]) < 1 or self.chance(0.3):
            pad = (0, 0, 0, 0)
        return self.last(x, lambda t: ConvTranspose(
            t, weights, self.one_of(None, bias), (stride,) * 2, pad, extra, (d, d), groups
        ))  # fmt: skip

    def norm(self, x: Value) -> Value:
        c = x.type.shape[1]
        gain, offset, mean = (self.constant(c) for _ in range(3))
        variance = self.constant(c, positive=True)
        return self.last(x, lambda t: BatchNorm(t, gain, offset, mean, variance, 1e-5))

    def pool(self, x: Value) -> Value | None:
        h, w = x.type.shape[2:]
        if min(h, w) < 1:
            return None
        kernel = self.one_of((h, w), (min(2, h), min(2, w)), (min(3, h), min(2, w)))
        stride, dilation, pad = kernel, (1, 1), (0, 0, 0, 0)
        if self.chance(0.4):
            stride, dilation = self.one_of((1, 1), (2, 1)), self.one_of((1, 1), (2, 2))
        if self.chance(0.3):
            pad = tuple(int(p) for p in self.rng.integers(0, 3, 4))
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        if h + pad[0] + pad[2] < reach[0] or w + pad[1] + pad[3] < reach[1]:
            return None
        count = bool(self.rng.integers(2))
        window = kernel, stride, pad, dilation
        probe = MaxPool(Value("probe", Tensor((1, h, w, 1), F32)), *window)
        if list(probe.faults()):
            return None
        if self.chance(0.5):
            return self.last(x, lambda t: MaxPool(t, *window))
        return self.last(x, lambda t: AvgPool(t, *window, count))

    def shuffle(self, x: Value) -> Value | None:
        n, c, h, w = x.type.shape
        if c % 2:
            return None
        wide = self.add(Reshape(x, (n, 2, c // 2, h, w)))
        return self.add(Reshape(self.add(Transpose(wide, (0, 2, 1, 3, 4))), (n, c, h, w)))

    def linear(self, x: Value) -> Value:
        i, o = x.type.shape[1], int(self.rng.integers(1, 5))
        if self.rng.random() < 0.5:
            return self.add(Linear(x, self.weights(o, i), self.one_of(None, self.constant(o))))
        return self.add(MatMul(x, self.weights(i, o)))


def broadcasts(v: Value, x: Value) -> bool:
    """Whether v broadcasts to the shape of x."""
    try:
        return np.broadcast_shapes(v.type.shape, x.type.shape) == x.type.shape
    except ValueError:
        return False


def broadcasts_leading(a: Value, b: Value) -> bool:
    try:
        return bool(np.broadcast_shapes(a.type.shape[:-2], b.type.shape[:-2]) or True)
    except ValueError:
        return False
