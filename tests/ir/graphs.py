"""Random integer graphs, for the laws of the language: printing, parsing, verifying, bounds."""

from __future__ import annotations

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    AvgPool,
    Concat,
    Constant,
    Conv,
    Gather,
    Linear,
    Lookup,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    PadMode,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Requantize,
    Reshape,
    Slice,
    SoftmaxFixed,
    Transpose,
)  # fmt: skip
from qir.ir.types import I4, I8, I32, U4, U8, Int, Quant, Tensor

STORAGES = (I8, U8, I4, U4)


class IntegerGraphs:
    """Draws a graph of `size` ops on quantized tensors from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder("random", "integer")

    def graph(self, size: int) -> Graph:
        shape = (1, *(int(s) for s in self.rng.integers(1, 5, 3)))
        values = [self.builder.input("x", Tensor(shape, self.quant()))]
        for _ in range(size):
            x = values[int(self.rng.integers(len(values)))]
            made = self.narrow(self.step(x, values))
            if 0 < made.type.size < 400:
                values.append(made)
        outputs = [values[-1], values[int(self.rng.integers(len(values)))]]
        return self.builder.finish(outputs, ["last", "any other"])

    def one_of(self, *choices: object) -> object:
        return choices[int(self.rng.integers(len(choices)))]

    def quant(self, storage: Int | None = None) -> Quant:
        kept = storage or STORAGES[int(self.rng.integers(len(STORAGES)))]
        zero = int(self.rng.integers(kept.min, kept.max + 1))
        return Quant.per_tensor(kept, float(2.0 ** self.rng.uniform(-8, 2)), zero)

    def weights(self, *shape: int) -> Value:
        kept = STORAGES[int(self.rng.integers(len(STORAGES)))]
        stored = self.rng.integers(kept.min, kept.max + 1, shape)
        if self.rng.random() < 0.5:
            scales = 2.0 ** self.rng.uniform(-8, 2, shape[0])
            zeros = self.rng.integers(kept.min, kept.max + 1, shape[0])
            return self.add(Constant.of(stored, Quant.per_axis(kept, scales, zeros, 0)))
        return self.add(Constant.of(stored, self.quant(kept)))

    def add(self, op: Op) -> Value:
        return self.builder.add(op)

    def narrow(self, x: Value) -> Value:
        """An accumulator is requantized to 8 bits or fewer; sometimes anything else is too."""
        held = x.type.quant
        if held.storage != I32 and self.rng.random() < 0.7:
            return x
        to = self.quant()
        target = held.scale.array / float(to.scale.array)
        if np.max(target) > 1 << 20 or np.min(target) < 2.0**-40:
            to = Quant.per_tensor(to.storage, float(np.max(held.scale.array)), to.storage.min)
            target = held.scale.array / float(to.scale.array)
        ratio = Dyadic.of(target)
        low, high = sorted(int(v) for v in self.rng.integers(to.storage.min, to.storage.max + 1, 2))
        rounding = list(Rounding)[int(self.rng.integers(4))]
        return self.add(Requantize((x,), to, (ratio.mult,), ratio.shift, low, high, rounding))

    def step(self, x: Value, values: list[Value]) -> Value:
        steps = [self.move, self.reduce, self.lookup, self.product]
        if x.type.rank == 4:
            steps += [self.conv, self.pool, self.conv]
        if x.type.rank >= 2:
            steps += [self.linear, self.matmul, self.concat]
        if x.type.rank >= 1:
            steps += [self.softmax]
        return steps[int(self.rng.integers(len(steps)))](x)

    def conv(self, x: Value) -> Value:
        c = x.type.shape[3]
        k = int(self.rng.integers(1, min(3, *x.type.shape[1:3]) + 1))
        pad = (1, 1, 1, 1) if k > 1 and self.rng.random() < 0.5 else (0, 0, 0, 0)
        groups = c if self.rng.random() < 0.3 else 1
        w = self.weights(groups * int(self.rng.integers(1, 3)), k, k, c // groups)
        made = Conv(x, w, None, (1, 1), pad, (1, 1), groups)
        return self.add(made)

    def linear(self, x: Value) -> Value:
        w = self.weights(int(self.rng.integers(1, 5)), x.type.shape[-1])
        typed = Linear(x, w, None, names=("y",)).result.type.quant
        scale = typed.scale.array
        bias = self.rng.integers(-1000, 1000, w.type.shape[0])
        elem = (
            Quant.per_tensor(I32, float(scale), 0)
            if scale.ndim == 0
            else Quant.per_axis(I32, scale, 0, 0)
        )
        return self.add(Linear(x, w, self.add(Constant.of(bias, elem))))

    def matmul(self, x: Value) -> Value:
        perm = (*range(x.type.rank - 2), x.type.rank - 1, x.type.rank - 2)
        return self.add(MatMul(x, self.add(Transpose(x, perm))))

    def product(self, x: Value) -> Value:
        return self.add(Mul(x, x))

    def pool(self, x: Value) -> Value:
        kernel = (min(2, x.type.shape[1]), min(2, x.type.shape[2]))
        none = (0, 0, 0, 0)
        if self.rng.random() < 0.5:
            return self.add(MaxPool(x, kernel, (1, 1), none, (1, 1)))
        return self.add(AvgPool(x, kernel, (1, 1), none, (1, 1), True))

    def reduce(self, x: Value) -> Value:
        kinds = (ReduceMax, ReduceMean, ReduceSum)
        axes = tuple(range(x.type.rank - 1, x.type.rank)) if x.type.rank else ()
        return self.add(kinds[int(self.rng.integers(3))](x, axes, bool(self.rng.integers(2))))

    def lookup(self, x: Value) -> Value:
        to, bits = self.quant(), x.type.quant.storage.bits
        table = self.rng.integers(to.storage.min, to.storage.max + 1, 1 << bits)
        return self.add(Lookup(x, Data(table.astype(to.carrier)), to))

    def softmax(self, x: Value) -> Value:
        bits, to = x.type.quant.storage.bits, Quant.per_tensor(U8, 1 / 256, 0)
        steps = np.arange(1 << bits) * float(x.type.quant.scale.array)
        table = Data(np.round(np.exp(-steps) * 2**20).astype(np.int32))
        return self.add(SoftmaxFixed(x, table, to, Dyadic.of(2.0**-30 * 256)))

    def concat(self, x: Value) -> Value:
        return self.add(Concat((x, x), int(self.rng.integers(x.type.rank))))

    def move(self, x: Value) -> Value:
        rank, shape = x.type.rank, x.type.shape
        kind = int(self.rng.integers(5))
        if kind == 0 or not rank:
            return self.add(Reshape(x, (x.type.size,)))
        if kind == 1:
            return self.add(Transpose(x, tuple(int(a) for a in self.rng.permutation(rank))))
        if kind == 2:
            one = (1,) * rank
            return self.add(Pad(x, one, one, one, PadMode.CONSTANT, 0.0))
        if kind == 3:
            return self.add(Slice(x, (0,) * rank, shape, tuple(2 for _ in shape)))
        axis = int(self.rng.integers(rank))
        return self.add(Gather(x, Data(self.rng.integers(0, shape[axis], 3)), axis))
