"""Tie classes: one value that linear ops read, and the op that takes what its channels are divided
by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, LayerNorm, Linear, Mul, RmsNorm
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Miss
from qir.passes.transform.attention_chains import Chain, chain_to

Norm = RmsNorm | LayerNorm


@dataclass(frozen=True, eq=False)
class TieClass:
    """`consumers` read `value`, (..., C); `source`, a norm or a linear op, is divided by s, whose
    channel c is that of channel `spread[c]` of the source; `names`: the values divided with it.
    """

    value: Value
    source: Norm | Linear
    consumers: tuple[Linear, ...]
    spread: Array
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """Channels that have a scale of their own."""
        return int(self.spread.max()) + 1

    def joined(self, each: Array) -> Array:
        """The greatest of the channels that share a scale: (C,) -> (width,)."""
        found = np.zeros(self.width)
        np.maximum.at(found, self.spread, each)
        return found

    def divided(self, s: Array) -> dict[str, Array]:
        """By what the channels of each value are divided."""
        return {name: s[self.spread] if name == self.value.name else s for name in self.names}

    def change(self, s: Array, reach: Array) -> str:
        """What a division by s, (width,), does to channels that reach so far, (C,)."""
        before, after = (spread_of(r) for r in (reach, reach / s[self.spread]))
        return f"greatest channel over the median {before:.1f} -> {after:.1f}"

    def __str__(self) -> str:
        readers = ", ".join(f"%{op.names[0]}" for op in self.consumers)
        return f"{self.value} -> {readers}"


def spread_of(reach: Array) -> float:
    """The greatest channel over the median."""
    return float(reach.max() / max(float(np.median(reach)), 1e-30))


def tie_classes(graph: Graph) -> Iterator[TieClass | Miss]:
    """Those of norms, of values through attention, and of products with a linear op."""
    for op in graph.ops:
        match op:
            case RmsNorm() | LayerNorm():
                yield of_norm(graph, op)
            case Attention():
                yield of_values(graph, op)
            case Mul():
                yield of_product(graph, op)


def of_norm(graph: Graph, op: Norm) -> TieClass | Miss:
    parameters = (op.gain, op.offset) if isinstance(op, LayerNorm) else (op.gain,)
    if any(p is not None and constant_of(graph, p) is None for p in parameters):
        return Miss("its gain is computed, a constant is needed", op.names[0])
    readers = _consumers(graph, op.result)
    if isinstance(readers, Miss):
        return readers
    width = op.x.type.shape[-1]
    return TieClass(op.result, op, readers, np.arange(width), (op.names[0],))


def of_values(graph: Graph, op: Attention) -> TieClass | Miss:
    readers, chain = _consumers(graph, op.result), chain_to(graph, op.v)
    if isinstance(readers, Miss):
        return readers
    if isinstance(chain, Miss):
        return chain
    width = op.v.type.shape[-1]
    if (chain.start, chain.stop) != (0, chain.layer.w.type.shape[0]):
        return Miss("its values are a part of a linear op (split-linear)", op.v.name)
    channels = np.arange(width).reshape(op.kv_heads, 1, -1)
    spread = np.broadcast_to(
        channels, (op.kv_heads, op.heads // op.kv_heads, width // op.kv_heads)
    ).reshape(-1)
    names = (*chain.names, chain.layer.names[0], op.names[0])
    return TieClass(op.result, chain.layer, readers, spread, names)


def of_product(graph: Graph, op: Mul) -> TieClass | Miss:
    readers = _consumers(graph, op.result)
    if isinstance(readers, Miss):
        return readers
    for factor in (op.b, op.a):
        chain = chain_to(graph, factor)
        if isinstance(chain, Chain) and factor.type.shape == op.result.type.shape:
            if (chain.start, chain.stop) != (0, chain.layer.w.type.shape[0]):
                continue
            names = (*chain.names, chain.layer.names[0], op.names[0])
            width = np.arange(factor.type.shape[-1])
            return TieClass(op.result, chain.layer, readers, width, names)
    return Miss("neither factor is a linear op's", op.names[0])


def _consumers(graph: Graph, value: Value) -> tuple[Linear, ...] | Miss:
    """The linear ops that read a value, if nothing else does, and nothing else their weights."""
    found = []
    if value.name in {v.name for v in graph.outputs}:
        return Miss("an output of the graph", value.name)
    for op in graph.users.get(value.name, ()):
        if not isinstance(op, Linear) or op.x.name != value.name:
            return Miss(f"{op} reads it, linear ops are needed", value.name)
        if not op.w.type.is_float or constant_of(graph, op.w) is None:
            return Miss(f"the weights of {op} are not float constants", value.name)
        if graph.use_counts[op.w.name] > 1:
            return Miss(f"the weights of {op} are tied", value.name)
        found.append(op)
    return tuple(found) or Miss("nothing reads it", value.name)


@dataclass
class Edits:
    """What is multiplied and added, of linear ops by `rows` (O,), `columns` (I,), `biases` (O,), of
    norms by gains and offsets, all by the name of the result.
    """

    rows: dict[str, Array] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    norms: dict[str, Array] = field(default_factory=dict)

    def divide(self, one: TieClass, s: Array) -> None:
        """The value of a class by s, (width,)."""
        own = self.rows if isinstance(one.source, Linear) else self.norms
        _times(own, one.source.names[0], 1 / s)
        for op in one.consumers:
            _times(self.columns, op.names[0], s[one.spread])

    def made(self, graph: Graph, by: str) -> Graph:
        """The graph with new constants."""

        def edited(op: Op, builder: Builder) -> Op:
            name, old = op.names[0], graph.producers[op.names[0]]
            new: dict[str, Value] = {}

            def put(part: str, like: Value, elements: Array) -> None:
                made = Constant.of(elements.astype(np.float32))
                new[part] = builder.add(made, f"{like.name}_scaled")

            down = self.rows.get(name, self.norms.get(name))
            if isinstance(old, Linear) and (name in self.rows or name in self.columns):
                w = _real(graph, old.w) * self.columns.get(name, 1.0)
                put("w", old.w, w if down is None else w * down[:, None])
                if old.bias is not None and down is not None:
                    put("bias", old.bias, _real(graph, old.bias) * down)
            elif isinstance(old, RmsNorm | LayerNorm) and down is not None:
                gain = down if old.gain is None else _real(graph, old.gain) * down
                put("gain", old.gain or old.result, gain)
                if isinstance(old, LayerNorm) and old.offset is not None:
                    put("offset", old.offset, _real(graph, old.offset) * down)
            return replace(op, loc=op.loc.touched(by), **new) if new else op  # type: ignore[arg-type]

        return graph.mapped(edited)


def _real(graph: Graph, value: Value) -> Array:
    found = constant_of(graph, value)
    assert found is not None
    return found.astype(np.float64)


def _times(factors: dict[str, Array], name: str, by: Array) -> None:
    factors[name] = factors[name] * by if name in factors else by
