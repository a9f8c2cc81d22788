"""Random integer graphs, for the laws of the language: printing, parsing, verifying, bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qir.ir.data import Data
from qir.ir.errors import VerifyError
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    AvgPool,
    Bilinear,
    Concat,
    Constant,
    Conv,
    Expand,
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
    ScaleGroups,
    Slice,
    SoftmaxFixed,
    Transpose,
)  # fmt: skip
from qir.ir.ops.resize import WEIGHT_BITS
from qir.ir.types import I3, I4, I8, I16, I32, U2, U4, U8, Array, Int, Quant, Tensor

STORAGES = (I8, U8, I8, U8, I4, U4, I16, I3, U2)


class IntegerGraphs:
    """Draws a graph of `size` ops on quantized tensors from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder("random", "integer")

    def graph(self, size: int) -> Graph:
        shape = tuple(int(s) for s in self.rng.integers(1, 5, 4))
        shape = (*shape[:3], self.one_of(shape[3], shape[3], 9, 17))
        values = [self.builder.input("x", Tensor(shape, self.quant()))]
        for i in range(self.one_of(0, 0, 1, 2)):  # of any rank, a scalar or empty among them
            kind = Tensor(shape[self.one_of(1, 2, 3, 4) :], self.quant())
            kind = self.one_of(kind, kind, kind, Tensor((0, *shape[1:]), self.quant()))
            values.append(self.builder.input(f"x{i}", kind))
        for _ in range(size):
            x = values[int(self.rng.integers(len(values)))]
            try:
                made = self.narrow(self.step(x, values), values)
            except VerifyError:
                continue  # the op does not take such a value
            if made.type.size < 600 and (made.type.size or self.rng.random() < 0.3):
                values.append(made)
        outputs = [values[-1], values[int(self.rng.integers(len(values)))]]
        return self.builder.finish(outputs, ["last", "any other"])

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def quant(self, storage: Int | None = None) -> Quant:
        chosen_storage = storage or STORAGES[int(self.rng.integers(len(STORAGES)))]
        zero = int(self.rng.integers(chosen_storage.min, chosen_storage.max + 1))
        return Quant.per_tensor(chosen_storage, float(2.0 ** self.rng.uniform(-8, 2)), zero)

    def weights(self, *shape: int) -> Value:
        """A constant, by groups now and then; or an input of the graph."""
        storage = STORAGES[int(self.rng.integers(len(STORAGES)))]
        if self.rng.random() < 0.15:
            zeros = self.rng.integers(storage.min, storage.max + 1, shape[0])
            scales = 2.0 ** self.rng.uniform(-8, 2, shape[0])
            elem = Quant.per_axis(storage, scales, zeros, 0)
            return self.builder.input("w", Tensor(shape, self.one_of(elem, self.quant(storage))))
        if self.rng.random() < 0.2:
            scales = Quant.per_axis(I4, 2.0 ** self.rng.uniform(-8, 2, shape[0]), 0, 0)
            w = self.add(Constant.of(self.rng.integers(-8, 8, shape), scales))
            block = self.one_of(1, 2, 4)
            count = (*shape[:-1], -(-shape[-1] // block))
            mult = self.add(Constant.of(self.rng.integers(0, 256, count), U8))
            return self.add(ScaleGroups(w, mult, block))
        stored = self.rng.integers(storage.min, storage.max + 1, shape)
        if self.rng.random() < 0.5:
            scales = 2.0 ** self.rng.uniform(-8, 2, shape[0])
            zeros = self.rng.integers(storage.min, storage.max + 1, shape[0])
            return self.add(Constant.of(stored, Quant.per_axis(storage, scales, zeros, 0)))
        return self.add(Constant.of(stored, self.quant(storage)))

    def add(self, op: Op) -> Value:
        return self.builder.add(op)

    def narrow(self, x: Value, values: list[Value]) -> Value:
        """An accumulator is requantized to fewer bits, with another operand added or subtracted now
        and then; sometimes anything else is too.
        """
        quant = x.type.quant
        if quant.storage != I32 and quant.is_per_tensor and self.rng.random() < 0.7:
            return x
        others = [v for v in values if broadcasts(v, x)] if self.rng.random() < 0.4 else []
        xs = (x, *(self.one_of(*others) for _ in range(self.one_of(1, 1, 2)) if others))
        to = self.quant()
        if x.type.rank and x.type.size and self.rng.random() < 0.1:
            axis = int(self.rng.integers(x.type.rank))
            factors = 2.0 ** self.rng.uniform(-1, 1, x.type.shape[axis])
            zeros = self.rng.integers(to.storage.min, to.storage.max + 1, len(factors))
            to = Quant.per_axis(to.storage, float(to.scale.array) * factors, zeros, axis)
        if max(np.max(r, initial=0) for r in ratios(xs, to, x)) > 1 << 20 or not all(
            np.all(r > 2.0**-40) for r in ratios(xs, to, x)
        ):
            scale = max(float(np.max(v.type.quant.scale.array, initial=0)) for v in xs) or 1.0
            to = Quant.per_tensor(to.storage, scale, to.storage.min)
        signs = [1] if len(xs) == 1 else [self.one_of(1, 1, -1) for _ in xs]
        signed = [r * sign for r, sign in zip(ratios(xs, to, x), signs, strict=True)]
        try:
            dyadics = Dyadic.with_common_shift(*signed)
        except VerifyError:
            return self.narrow(x, [])  # of scales too far apart for one shift
        mult, shift = tuple(d.mult for d in dyadics), dyadics[0].shift
        low, high = sorted(int(v) for v in self.rng.integers(to.storage.min, to.storage.max + 1, 2))
        rounding = list(Rounding)[int(self.rng.integers(4))]
        return self.add(Requantize(xs, to, mult, shift, low, high, rounding))

    def step(self, x: Value, values: list[Value]) -> Value:
        steps: list[Callable[[Value], Value]] = [
            self.move, self.move, self.reduce, self.lookup, lambda v: self.product(v, values),
            self.linear, lambda v: self.matmul(v, values), lambda v: self.concat(v, values),
            self.softmax,
        ]  # fmt: skip
        if x.type.rank == 4:
            steps += [self.conv, self.pool, self.conv, self.bilinear]
        return self.one_of(*steps)(x)

    def conv(self, x: Value) -> Value:
        c = x.type.shape[3]
        k, d = int(self.rng.integers(1, 4)), self.one_of(1, 1, 2)
        pad = tuple(int(p) for p in self.rng.integers(0, 3, 4)) if k > 1 else (0, 0, 0, 0)
        groups = self.one_of(1, 1, max(c, 1))
        w = self.weights(groups * int(self.rng.integers(1, 3)), k, k, c // groups)
        return self.add(Conv(x, w, None, self.one_of((1, 1), (2, 1)), pad, (d, d), groups))

    def linear(self, x: Value) -> Value:
        w = self.weights(int(self.rng.integers(1, 5)), x.type.shape[-1] if x.type.rank else 1)
        typed = Linear(x, w, None, names=("y",)).result.type.quant
        scale = typed.scale.array
        bias = self.rng.integers(-1000, 1000, w.type.shape[0])
        elem = (
            Quant.per_tensor(I32, float(scale), 0)
            if scale.ndim == 0
            else Quant.per_axis(I32, scale, 0, 0)
        )
        return self.add(Linear(x, w, self.add(Constant.of(bias, elem))))

    def matmul(self, x: Value, values: list[Value]) -> Value:
        others = [v for v in values if v.type.rank == 2 and v.type.shape[:1] == x.type.shape[-1:]]
        if others and self.rng.random() < 0.5:
            return self.add(MatMul(x, self.one_of(*others)))
        perm = (*range(x.type.rank - 2), x.type.rank - 1, x.type.rank - 2)
        return self.add(MatMul(x, self.add(Transpose(x, perm))))

    def product(self, x: Value, values: list[Value]) -> Value:
        return self.add(Mul(x, self.one_of(x, *(v for v in values if broadcasts(v, x)))))

    def pool(self, x: Value) -> Value:
        kernel, stride, dilation = self.one_of((2, 2), (3, 1)), self.one_of((1, 1), (2, 2)), (1, 1)
        pad = self.one_of((0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 1, 0))
        if self.rng.random() < 0.3:
            dilation = (2, 2)
        kind = (MaxPool, AvgPool)[int(self.rng.integers(2))]
        count = () if kind is MaxPool else (True,)
        if list(kind(x, kernel, stride, pad, dilation, *count, names=("probe",)).faults()):
            pad = (0, 0, 0, 0)
        return self.add(kind(x, kernel, stride, pad, dilation, *count))

    def bilinear(self, x: Value) -> Value:
        tables: list[Data] = []
        weights: list[Data] = []
        for size in x.type.shape[1:3]:
            count = self.one_of(0, 1, 2, 5)
            tables.append(Data(self.rng.integers(0, max(size, 1), (count, 2))))
            near = self.rng.integers(0, 1 + (1 << WEIGHT_BITS), count)
            pairs = np.stack([near, (1 << WEIGHT_BITS) - near], 1)
            weights.append(Data(pairs.astype(np.int16)))
        return self.add(Bilinear(x, *tables, *weights))

    def reduce(self, x: Value) -> Value:
        kinds = (ReduceMax, ReduceMean, ReduceSum)
        count = int(self.rng.integers(0, x.type.rank + 1))
        axes = tuple(int(a) for a in self.rng.permutation(x.type.rank)[:count])
        return self.add(kinds[int(self.rng.integers(3))](x, axes, bool(self.rng.integers(2))))

    def lookup(self, x: Value) -> Value:
        to, size = self.quant(), 1 << x.type.quant.storage.bits
        shape = (x.type.shape[-1], size) if x.type.rank and self.rng.random() < 0.3 else (size,)
        table = self.rng.integers(to.storage.min, to.storage.max + 1, shape)
        return self.add(Lookup(x, Data(table.astype(to.carrier)), to))

    def softmax(self, x: Value) -> Value:
        bits, to = x.type.quant.storage.bits, Quant.per_tensor(U8, 1 / 256, 0)
        steps = np.arange(1 << bits) * float(np.max(x.type.quant.scale.array, initial=0))
        table = Data(np.round(np.exp(-steps) * 2**20).astype(np.int32))
        return self.add(SoftmaxFixed(x, table, to, Dyadic.of(2.0**-30 * 256)))

    def concat(self, x: Value, values: list[Value]) -> Value:
        same = [v for v in values if v.type == x.type]
        axis = int(self.rng.integers(max(x.type.rank, 1)))
        return self.add(Concat((x, self.one_of(x, *same)), axis))

    def move(self, x: Value) -> Value:
        rank, shape = x.type.rank, x.type.shape
        kind = int(self.rng.integers(7))
        if kind == 0 or not rank:
            return self.add(Reshape(x, self.one_of((x.type.size,), (*shape, 1))))
        if kind == 1:
            return self.add(Transpose(x, tuple(int(a) for a in self.rng.permutation(rank))))
        if kind == 2:
            one = (1,) * rank
            mode = self.one_of(PadMode.CONSTANT, PadMode.CONSTANT, PadMode.EDGE)
            between = one if mode is PadMode.CONSTANT else (0,) * rank
            if mode is PadMode.EDGE and not x.type.size:
                mode = PadMode.CONSTANT
            return self.add(Pad(x, one, one, between, mode, 0.0))
        if kind == 3:
            return self.add(Slice(x, (0,) * rank, shape, tuple(2 for _ in shape)))
        if kind == 4:
            sizes = tuple(int(self.rng.integers(1, 4)) if s == 1 else s for s in shape)
            return self.add(Expand(x, self.one_of(sizes, (2, *sizes))))
        axis = int(self.rng.integers(rank))
        if kind == 5:  # nothing along one axis
            stop = tuple(0 if a == axis else s for a, s in enumerate(shape))
            return self.add(Slice(x, (0,) * rank, stop, (1,) * rank))
        index = self.rng.integers(0, max(shape[axis], 1), self.one_of((3,), (), (2, 2)))
        return self.add(Gather(x, Data(index), axis))


def broadcasts(v: Value, x: Value) -> bool:
    """Whether v broadcasts to the shape of x."""
    try:
        return np.broadcast_shapes(v.type.shape, x.type.shape) == x.type.shape
    except ValueError:
        return False


def ratios(xs: Sequence[Value], to: Quant, like: Value) -> list[Array]:
    """Steps of `to` in a step of each operand, as they broadcast to the shape of `like`."""
    scale = to.spread(like.type.shape)[0]
    return [np.asarray(x.type.quant.spread(x.type.shape)[0] / scale) for x in xs]
