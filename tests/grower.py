"""What adds random ops to a graph: draws operands and numbers, and refuses what could overflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qir.ir.bounds import Bounds
from qir.ir.errors import QirError
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Constant,
    Requantize,
    ScaleGroups,
)
from qir.ir.ranges import extremes_of, range_of
from qir.ir.types import I4, I8, I16, I32, U3, U4, U5, U7, U8, Array, Int, Quant, Tensor, integer_of

CHANNELS = (1, 2, 3, 4, 5, 8, 13, 16, 17, 24, 32, 33, 48, 64, 70)
LARGEST = 20_000  # elements of a value


class Unfit(Exception):
    """These operands do not suit the op that was drawn, or it could overflow; another is drawn."""


class Grower:
    """Adds random ops to a builder, each proven not to overflow, until a graph is large enough."""

    def __init__(self, builder: Builder, rng: np.random.Generator) -> None:
        self.builder, self.rng = builder, rng
        self.values: list[Value] = []
        self.known: dict[str, Any] = {}

    # -- drawing

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def quant(self, storages: Sequence[Int] = (U8, U8, U8, I8, I8, I16, U4, I4, U3, U5)) -> Quant:
        storage = self.pick(storages)
        zero = self.pick([0, storage.min, storage.max, self.between(storage.min, storage.max)])
        return Quant.per_tensor(storage, float(2.0 ** self.rng.uniform(-12, 3)), zero)

    def value(self, test: Callable[[Value], bool] = lambda v: True) -> Value:
        fitting = [v for v in self.values if integer_of(v.type.elem) != I32 and test(v)]
        if not fitting:
            raise Unfit
        return self.pick(fitting[-4:] if self.chance(0.7) else fitting)

    def image(self, test: Callable[[Value], bool] = lambda v: True) -> Value:
        return self.value(lambda v: v.type.rank == 4 and test(v))

    # -- adding

    def input(self, name: str) -> Value:
        rank = self.pick([4, 4, 4, 4, 4, 4, 2, 2, 3, 3, 1, 1, 0])
        sizes = [self.pick([1, 1, 2]), self.between(1, 9), self.between(1, 9), self.pick(CHANNELS)]
        return self._input(name, Tensor(tuple(sizes[4 - rank :]), self.quant()))

    def _input(self, name: str, kind: Tensor) -> Value:
        value = self.builder.input(name, kind)
        self.values.append(value)
        self.known[value.name] = Bounds.of_type(value.type)
        return value

    def add(self, op: Op) -> Value:
        """Append `op`, unless it breaks a rule or an intermediate may overflow."""
        try:
            size = op.infer()
        except QirError as e:
            raise Unfit from e
        assert isinstance(size, Tensor)
        if not 1 <= size.size <= LARGEST or size.rank > 5:
            raise Unfit
        named = replace(op, names=("probe",))
        if list(named.faults()):
            raise Unfit
        if not all(e.fits for e in extremes_of(range_of(named, self.known))):
            raise Unfit
        value = self.builder.add(op)
        self.known[value.name] = self.known.pop("probe")
        if not isinstance(op, Constant | ScaleGroups):
            self.values.append(value)
        return value

    def constant(self, array: Array, elem: Quant | Int) -> Value:
        return self.add(Constant.of(array, elem))

    def requantize(
        self, xs: Sequence[Value], to: Quant | None = None, plain: bool = False
    ) -> Value:
        """The xs in a scale that suits, saturates or wipes out; `plain`: as a tail to fuse."""
        if to is None:
            largest = max(float(np.max(x.type.quant.scale.array)) for x in xs)
            spread = [self.known[x.name] for x in xs]
            reach = max(
                (max(abs(s.ends[0]), abs(s.ends[1])) for s in spread if isinstance(s, Bounds)),
                default=1,
            )
            narrow, wide = (U8, I8, I8, U8, I16, U4, U7), (U8, I8, U8, I16, I4, I32, U3)
            q = self.quant(narrow if plain else wide)
            fit = largest * max(reach, 1) / 2 ** min(q.storage.bits, 16)
            factor = (
                2.0 ** self.rng.uniform(-3, 3)
                if self.chance(0.8)
                else 2.0 ** self.rng.uniform(-12, 12)
            )
            to = Quant.per_tensor(q.storage, fit * factor, int(q.zero_point.array))
        signs = [1 if plain or len(xs) == 1 or self.chance(0.7) else -1 for _ in xs]
        ratios = [
            x.type.quant.scale.array / to.scale.array * s for x, s in zip(xs, signs, strict=True)
        ]
        try:
            dyadics = Dyadic.with_common_shift(*ratios)
        except QirError as e:
            raise Unfit from e
        low, high = to.storage.min, to.storage.max
        if self.chance(0.3):
            low, high = sorted((self.between(low, high), self.between(low, high)))
        rounding = Rounding.HALF_UP if plain or self.chance(0.7) else self.pick(list(Rounding))
        mults = tuple(d.mult for d in dyadics)
        return self.add(Requantize(tuple(xs), to, mults, dyadics[0].shift, low, high, rounding))

    def finish_sum(self, acc: Value) -> None:
        """What follows an accumulator: mostly a tail to fuse, with a residual or not."""
        if self.chance(0.1):
            return
        same = [
            v
            for v in self.values
            if v.type.shape == acc.type.shape and v != acc and v.type.quant.is_per_tensor
        ]
        if not same and self.chance(0.1):
            name = f"{self.values[0].name}_r{len(self.values)}"
            same = [self._input(name, Tensor(acc.type.shape, self.quant((I16, I16, U8, U4))))]
        others = [self.pick(same)] if same and self.chance(0.7) else []
        xs = [acc, *others] if self.chance(0.7) else [*others, acc]
        self.requantize(xs, plain=self.chance(0.85))
        if self.chance(0.1):
            self.requantize([acc])  # a second reader: not to be fused
