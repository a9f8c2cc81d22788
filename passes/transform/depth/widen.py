"""Ops of like sub-layers that read one value, as one op with the channels of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, LayerNorm, Linear, RmsNorm, Rope, Slice
from qir.ir.ops.kinds import Elementwise
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Miss
from qir.passes.transform.depth.sublayers import Sublayer


class Added:
    """Ops that are added to a graph, under names that it does not have."""

    def __init__(self, graph: Graph, by: str) -> None:
        self.names = {v.name for v in graph.values}
        self.by, self.ops = by, list[Op]()

    def add(self, op: Op, name: str) -> Value:
        free_name, number = name, 0
        while free_name in self.names:
            number += 1
            free_name = f"{name}{number}"
        self.names.add(free_name)
        self.ops.append(replace(op, names=(free_name,), loc=op.loc.touched(self.by)))
        return self.ops[-1].result

    def replace(self, op: Op) -> Value:
        """Add an op that takes the place of the graph's of its name."""
        self.ops.append(replace(op, names=op.names, loc=op.loc.touched(self.by)))
        return self.ops[-1].result

    def constant(self, array: Array, like: Op, name: str) -> Value:
        constant = Constant.of(np.ascontiguousarray(array, np.float32))
        return self.add(replace(constant, loc=like.loc), name)


@dataclass(frozen=True)
class Same:
    """One value for all members; of member j stands value * ratios[j] + offsets[j], (C,)."""

    value: Value
    ratios: tuple[Array, ...] = ()
    offsets: tuple[Array, ...] = ()


@dataclass(frozen=True)
class Side:
    """The values of all members side by side, along the last axis."""

    value: Value


class Differ(Exception):
    """Why members cannot be one."""

    def __init__(self, why: str, at: str = "") -> None:
        super().__init__(why)
        self.miss = Miss(why, at)


class Wide:
    """The ops of sub-layers `parts`, all of which read `source`, in lockstep."""

    def __init__(
        self, graph: Graph, parts: Sequence[Sublayer], source: Value, additions: Added
    ) -> None:
        self.graph, self.parts, self.source, self.additions = graph, parts, source, additions
        self.values: dict[str, Same | Side] = {}  # by values of the first part

    def run(self, is_summed: bool) -> Sequence[Value] | Miss:
        """The delta of each part, or the sum of all of them as the only one; nothing is added to
        the graph for a Miss.
        """
        length, names = len(self.additions.ops), set(self.additions.names)
        try:
            return self._run(is_summed)
        except Differ as e:
            del self.additions.ops[length:]
            self.additions.names = names
            return e.miss

    def _run(self, is_summed: bool) -> Sequence[Value]:
        first, *others = self.parts
        self.values[first.source.name] = Same(self.source)
        if any(len(part.ops) != len(first.ops) for part in others):
            raise Differ("its sub-layers have other ops")
        for names in list(zip(*(part.ops for part in self.parts), strict=True))[:-1]:
            twins = [self.graph.producers[name] for name in names]
            self.values[names[0]] = self._wide(twins)
        twins = [self.graph.producers[part.ops[-1]] for part in self.parts]
        return self._deltas(twins, is_summed)

    def _wide(self, twins: Sequence[Op]) -> Same | Side:
        first = twins[0]
        if len({type(op) for op in twins}) > 1:
            raise Differ("its sub-layers have other ops", first.names[0])
        match first:
            case RmsNorm() | LayerNorm():
                return self._norm(twins)
            case Linear():
                return self._linear(twins)
            case Rope() | Attention() | Elementwise():
                return self._channels(twins)
        raise Differ(f"{first.mnemonic} has no form of more channels", first.names[0])

    def _check_alike(self, twins: Sequence[Op]) -> None:
        """Whether attributes and absent operands are the same. Errors: Differ."""
        first = twins[0]
        for op in twins[1:]:
            like = len(op.operands) == len(first.operands)
            if (
                not like
                or replace(op.on(*first.operands), names=first.names, loc=first.loc) != first
            ):
                raise Differ("its sub-layers have other attributes", first.names[0])

    def _array(self, value: Value | None, otherwise: Array | float) -> Array:
        if value is None:
            return np.asarray(otherwise, np.float64)
        array = constant_of(self.graph, value)
        if array is None or array.dtype.kind != "f":
            raise Differ("its weights are no float constants", value.name)
        return array.astype(np.float64)

    def _norm(self, twins: Sequence[Op]) -> Same:
        """One norm with the mean gain; members' own gains go on to the layers that read it."""
        first = twins[0]
        assert isinstance(first, (RmsNorm, LayerNorm))
        source = self.values.get(first.x.name)
        epsilons = {op.epsilon for op in twins if isinstance(op, (RmsNorm, LayerNorm))}
        if not isinstance(source, Same) or source.ratios or len(epsilons) > 1:
            raise Differ("its norms differ", first.names[0])
        size = first.x.type.shape[-1]
        gains, offsets = list[Array](), list[Array]()
        for op in twins:
            assert isinstance(op, (RmsNorm, LayerNorm))
            gains.append(np.broadcast_to(self._array(op.gain, 1.0), size))
            offset = op.offset if isinstance(op, LayerNorm) else None
            offsets.append(np.broadcast_to(self._array(offset, 0.0), size))
        mean = np.abs(gains).mean(0)
        mean = np.where(mean > 0, mean, 1.0)
        gain = self.additions.constant(mean, first, f"{first.names[0]}_gain")
        plain = replace(first, x=source.value, gain=gain)
        if isinstance(plain, LayerNorm):
            plain = replace(plain, offset=None)
        shared = self.additions.add(plain, f"{first.names[0]}_wide")
        return Same(shared, tuple(g / mean for g in gains), tuple(offsets))

    def _weights(self, op: Op) -> tuple[Array, Array | None]:
        assert isinstance(op, Linear)
        bias = None if op.bias is None else self._array(op.bias, 0.0)
        return self._array(op.w, 0.0), bias

    def _linear(self, twins: Sequence[Op]) -> Side:
        """Their rows one below the other."""
        first = twins[0]
        assert isinstance(first, Linear)
        source = self.values.get(first.x.name)
        if not isinstance(source, Same):
            raise Differ("its linear op reads a value of its own", first.names[0])
        rows, biases = list[Array](), list[Array]()
        for j, op in enumerate(twins):
            w, bias = self._weights(op)
            offset = source.offsets[j] if source.offsets else np.zeros(w.shape[1])
            biases.append(w @ offset + (0.0 if bias is None else bias))
            rows.append(w * source.ratios[j] if source.ratios else w)
        if len({w.shape for w in rows}) > 1:
            raise Differ("its weights have other shapes", first.names[0])
        bias = np.concatenate(biases)
        has_bias = bool(bias.any()) or first.bias is not None
        return Side(
            self._layer(first, source.value, np.concatenate(rows), bias if has_bias else None)
        )

    def _layer(self, like: Linear, x: Value, w: Array, bias: Array | None, more: str = "") -> Value:
        stem = f"{like.names[0]}_wide{more}"
        weights = self.additions.constant(w, like, f"{stem}_w")
        offset = None if bias is None else self.additions.constant(bias, like, f"{stem}_bias")
        return self.additions.add(replace(like, x=x, w=weights, bias=offset), stem)

    def _channels(self, twins: Sequence[Op]) -> Side:
        """An op on heads or single channels: the same on those of all members."""
        first = twins[0]
        self._check_alike(twins)
        operands = list[Value]()
        for at, v in enumerate(first.operands):
            side = self.values.get(v.name)
            if isinstance(side, Side):
                operands.append(side.value)
                continue
            others = [op.operands[at] for op in twins]
            if isinstance(side, Same) or not self._is_table(first, others):
                raise Differ("it reads what the members do not have side by side", first.names[0])
            operands.append(v)
        wide = first.on(*operands)
        if isinstance(wide, Attention):
            if len(operands) != 3:
                raise Differ("its attention has a bias, a mask or a start", first.names[0])
            count = len(twins)
            wide = replace(wide, heads=wide.heads * count, kv_heads=wide.kv_heads * count)
        return Side(self.additions.add(wide, f"{first.names[0]}_wide"))

    def _is_table(self, op: Op, values: Sequence[Value]) -> bool:
        """Whether all members read one constant, that has no channels of its own."""
        arrays = [constant_of(self.graph, v) for v in values]
        first = arrays[0]
        if first is None or not (isinstance(op, Rope) or first.size == 1):
            return False
        return all(a is not None and np.array_equal(a, first) for a in arrays)

    def _deltas(self, twins: Sequence[Op], is_summed: bool) -> Sequence[Value]:
        """The last linear op of each part, or one for their sum."""
        first = twins[0]
        source = self.values.get(first.operands[0].name) if first.operands else None
        if not all(isinstance(op, Linear) for op in twins) or not isinstance(source, Side):
            raise Differ("a linear op does not end it", first.names[0])
        assert isinstance(first, Linear)
        every = [self._weights(op) for op in twins]
        if len({w.shape for w, _ in every}) > 1:
            raise Differ("its weights have other shapes", first.names[0])
        if is_summed:
            biases = [bias for _, bias in every if bias is not None]
            w = np.concatenate([w for w, _ in every], 1)
            return [self._layer(first, source.value, w, np.sum(biases, 0) if biases else None)]
        return [self._part(op, j, source.value) for j, op in enumerate(twins)]

    def _part(self, op: Op, j: int, side: Value) -> Value:
        """The last linear op of member j, on its own channels."""
        assert isinstance(op, Linear)
        *lead, size = op.x.type.shape
        start, stop = (*(0 for _ in lead), j * size), (*lead, (j + 1) * size)
        part = Slice(side, start, stop, (1,) * len(stop), loc=op.loc)
        x = self.additions.add(part, f"{op.names[0]}_part")
        return self.additions.replace(replace(op, x=x))
