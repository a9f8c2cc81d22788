"""Random float networks: what the passes from calibration to integers must survive."""

from __future__ import annotations

import numpy as np

from qir.ir.data import Data
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Abs,
    Add,
    AvgPool,
    Bilinear,
    Clip,
    Concat,
    Constant,
    Conv,
    Div,
    Elu,
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
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Relu,
    Reshape,
    Sigmoid,
    Silu,
    Slice,
    Softmax,
    Softplus,
    Sub,
    Tanh,
    Transpose,
)  # fmt: skip
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import rows_of
from tests.passes.float_graphs import halves

UNARY = (
    Relu, Sigmoid, Tanh, HardSwish, Silu, Softplus, Neg, Abs,
)  # fmt: skip


class Net:
    """Grows a graph of values (1, H, W, C) by random ops."""

    def __init__(self, seed: int, is_wide: bool = False) -> None:
        self.is_wide = is_wide
        self.rng = np.random.default_rng(seed)
        self.builder = Builder(f"random{seed}", "canonical")

    def constant(self, *shape: int, size: float = 1.0) -> Value:
        a = (self.rng.standard_normal(shape) * size).astype(np.float32)
        return self.builder.add(Constant.of(a))

    def add(self, op: Op) -> Value:
        return self.builder.add(op)

    def conv(self, x: Value) -> Value:
        c = x.type.shape[3]
        k, stride = int(self.rng.choice([1, 3])), int(self.rng.choice([1, 1, 2]))
        depthwise = self.rng.random() < 0.3
        o = c if depthwise else int(self.rng.integers(1, 9))
        d = 1
        if self.is_wide:
            d = int(self.rng.choice([1, 1, 2]))
            o = o if depthwise else int(self.rng.choice([o, 12, 16, 33]))
        inner = 1 if depthwise else c
        w = self.constant(o, k, k, inner, size=(k * k * inner) ** -0.5)
        bias = self.constant(o, size=0.3) if self.rng.random() < 0.7 else None
        pad = (d * (k // 2),) * 4
        return self.add(Conv(x, w, bias, (stride,) * 2, pad, (d, d), c if depthwise else 1))

    def unary(self, x: Value) -> Value:
        match int(self.rng.integers(14)):
            case n if n < len(UNARY):
                return self.add(UNARY[n](x))
            case 8:
                return self.add(Clip(x, -0.5, 1.5))
            case 9:
                return self.add(LeakyRelu(x, 0.1))
            case 10:
                return self.add(PRelu(x, self.constant(x.type.shape[3], size=0.3)))
            case 11:
                return self.add(Elu(x, 1.0, 1.0))
            case 12:
                return self.add(HardSigmoid(x, 0.2, 0.5))
            case _:
                return self.add(Gelu(x, False))

    def binary(self, x: Value, others: list[Value]) -> Value:
        fits = [v for v in others if v.type.shape == x.type.shape]
        c = x.type.shape[3]
        match int(self.rng.integers(9)):
            case 6 if fits:
                other = fits[int(self.rng.integers(len(fits)))]
                return self.add((Maximum if self.rng.random() < 0.5 else Minimum)(other, x))
            case 7 if fits:
                size = self.add(Abs(fits[int(self.rng.integers(len(fits)))]))
                one = self.builder.add(Constant.of(np.float32(1)))
                return self.add(Div(x, self.add(Add(size, one))))
            case 8:
                return self.add(LayerNorm(x, self.constant(c), self.constant(c), 1e-3))
            case 0 | 1 if fits:
                return self.add(Add(x, fits[int(self.rng.integers(len(fits)))]))
            case 2 if fits:
                return self.add(Sub(fits[int(self.rng.integers(len(fits)))], x))
            case 3:
                gate = self.add(ReduceMean(x, (1, 2), True))
                return self.add(Mul(x, self.add(Sigmoid(gate))))
            case 4:
                return self.add(Mul(x, self.constant(c, size=0.5)))
            case 5 if fits:
                return self.add(Mul(x, fits[int(self.rng.integers(len(fits)))]))
            case _:
                shape = (c,) if self.rng.random() < 0.5 else (1, *x.type.shape[1:])
                return self.add(Add(self.constant(*shape), x))

    def move(self, x: Value, others: list[Value]) -> Value:
        _, h, w, c = x.type.shape
        match int(self.rng.integers(9)):
            case 0:
                return self.add(Transpose(x, (0, 2, 1, 3)))
            case 1:
                return self.add(Slice(x, (0, 0, 0, 0), (1, h, w, max(1, c // 2)), (1, 1, 1, 1)))
            case 2:
                sides = (0, 1, 0, 1)
                return self.add(Pad(x, sides, (0, 0, 1, 0), (0,) * 4, PadMode.CONSTANT, 0.0))
            case 3 if h > 1 and w > 1:
                return self.add(MaxPool(x, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))
            case 4 if h > 2 and w > 2:
                counted = bool(self.rng.random() < 0.5)
                return self.add(AvgPool(x, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), counted))
            case 5:
                index = Data(self.rng.integers(0, c, max(1, c)))
                return self.add(Gather(x, index, 3))
            case 6:
                (rows, u), (columns, v) = halves(h), halves(w)
                return self.add(Bilinear(x, rows, columns, u, v))
            case _:
                fits = [v for v in others if v.type.shape[:3] == x.type.shape[:3]]
                parts = (x, *fits[:2]) if fits else (x, self.constant(1, h, w, 1))
                return self.add(Concat(parts, 3))

    def head(self, x: Value) -> Value:
        _, h, w, c = x.type.shape
        match int(self.rng.integers(5)):
            case 0:
                flat = self.add(ReduceMean(x, (1, 2), False))
            case 1:
                flat = self.add(ReduceMax(x, (1, 2), False))
            case 2:
                flat = self.add(ReduceSum(x, (1,), False))
                flat = self.add(Reshape(flat, (1, w * c)))
            case 3:
                rows = self.add(Reshape(x, (1, h * w, c)))
                turned = self.add(Transpose(rows, (0, 2, 1)))
                flat = self.add(Reshape(self.add(MatMul(turned, rows)), (1, c * c)))
            case _:
                flat = self.add(Reshape(x, (1, h * w * c)))
        n = flat.type.shape[1]
        y = self.add(Linear(flat, self.constant(5, n, size=n**-0.5), self.constant(5)))
        return self.add(Softmax(y)) if self.rng.random() < 0.3 else y

    def grow(self, steps: int) -> Graph:
        x = self.builder.input("x", Tensor((1, 8, 6, int(self.rng.integers(1, 5))), F32))
        values = [x]
        if self.is_wide and self.rng.random() < 0.4:
            shape = (1, 8, 6, 3) if self.rng.random() < 0.5 else (1, 1, 1, x.type.shape[3])
            z = self.builder.input("z", Tensor(shape, F32))
            joined = Concat((x, z), 3) if shape[1] > 1 else Mul(x, z)
            values += [z, self.add(joined)]
        for _ in range(steps):
            v = values[-1 if self.rng.random() < 0.8 else int(self.rng.integers(len(values)))]
            kind = self.rng.random()
            if kind < 0.35:
                new = self.conv(v)
            elif kind < 0.6:
                new = self.unary(v)
            elif kind < 0.8:
                new = self.binary(v, values)
            else:
                new = self.move(v, values)
            values.append(new)
        inner = values[int(self.rng.integers(1, len(values)))]  # also read by ops, mostly
        outputs = [self.head(values[-1]), values[-1]]
        if inner.name not in {v.name for v in outputs}:
            outputs.append(inner)
        while self.is_wide and self.rng.random() < 0.6:  # more of them, inputs too
            outputs.append(values[int(self.rng.integers(len(values)))])
        return self.builder.finish(outputs).without_dead_code()


def random_net(seed: int) -> Graph:
    return Net(seed).grow(3 + seed % 12)


def wide_net(seed: int) -> Graph:
    """More channels, dilation, another input, and inner values as outputs."""
    return Net(seed, is_wide=True).grow(3 + seed % 12)


def samples(graph: Graph, count: int, seed: int = 0) -> Array:
    return all_samples(graph, count, seed)[0]


def all_samples(graph: Graph, count: int, seed: int = 0) -> tuple[Array, ...]:
    """One batch for each input, of `count` times its rows."""
    rng = np.random.default_rng(seed)
    shapes = [(count * rows_of(v), *v.type.shape[1:]) for v in graph.inputs]
    return tuple(rng.standard_normal(s).astype(np.float32) for s in shapes)
