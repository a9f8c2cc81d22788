"""The stored weights of a simulated graph's layers, and their replacement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Constant, Dequantize, ScaleGroups
from qir.ir.ops.kinds import Layer
from qir.ir.types import Array, Quant
from qir.passes.infra.manager import Miss
from qir.passes.quantize.weights import LARGEST_BIAS, LARGEST_SUM, spread

MOST = 1.5  # times that a scale may become larger or smaller for a deviation
FLAT = 1e-9  # a channel of no greater deviation has none to keep


@dataclass(frozen=True)
class GroupMultipliers:
    """Integers of the groups of input channels: mult (O, ..., ceil(I / block)) int64, the constant
    called `name`; "" where it is that of another layer too.
    """

    name: str
    block: int
    mult: Array


@dataclass(frozen=True)
class StoredWeights:
    """The weights of one layer: real = stored * step, beside the reals they are to stand for.

    layer:    the name of the contraction's result; `constant` and `reals` name the stored integers
              and what the contraction reads.
    bias:     (O,) its float bias, the constant called `bias_name`; None where none may be changed.
    scale:    of the stored weights, (O,) or ().
    floor:    the least that keeps the bias within i32, as scale.
    groups:   of input channels, where these have scales of their own.
    floats:   (O, ..., I) float64, of the float graph.
    low, high: what the storage holds.
    x_reach:  the most that |x - zero_point| can be, in steps of the input.
    """

    layer: str
    constant: str
    reals: str
    bias_name: str
    bias: Array | None
    stored: Array
    scale: Array
    floor: Array
    groups: GroupMultipliers | None
    floats: Array
    low: int
    high: int
    x_reach: int

    @property
    def has_channel_scales(self) -> bool:
        return self.scale.ndim == 1

    @property
    def is_floating(self) -> bool:
        """Whether the scales of groups are powers of two: block floating point."""
        if self.groups is None:
            return False
        scales = (self.scale, self.groups.mult)
        return all((np.frexp(s.astype(np.float64))[0] == 0.5).all() for s in scales)

    @property
    def times(self) -> Array:
        """The integer of each weight's group, (O, ..., I); 1 where there are none, ()."""
        if self.groups is None:
            return np.ones((), np.int64)
        return spread(self.groups.mult, self.groups.block, self.floats.shape[-1])

    @property
    def step(self) -> Array:
        """(O, ..., I) float64, the scale of a channel times the integer of a group."""
        of_channel = self.scale.reshape(-1, *[1] * (self.floats.ndim - 1))
        return np.broadcast_to(of_channel * self.times, self.floats.shape)

    def scaled(self, change: Array) -> Array:
        """The scales of channels times (O,) factors, as floats of 32 bits hold them."""
        return self.rounded(self.scale * change.reshape(-1))

    def rounded(self, scale: Array) -> Array:
        """Scales (O,) as floats of 32 bits, none below the floor."""
        return np.maximum(scale, self.floor).astype(np.float32).astype(np.float64)

    def fits(self, stored: Array) -> Array:
        """(O,) whether sums of products with these integers are below LARGEST_SUM."""
        rows = np.abs(stored.astype(np.int64) * self.times).reshape(len(stored), -1)
        return np.asarray(rows.sum(1) * self.x_reach < LARGEST_SUM)

    def checked(self, stored: Array) -> Array:
        """New integers; the old ones in rows where they do not fit."""
        return by_row(self.fits(stored), stored, self.stored).astype(self.stored.dtype)

    def with_scales(self, scale: Array, groups: GroupMultipliers | None) -> StoredWeights:
        """Other scales and the nearest integers; rows where those do not fit are unchanged."""
        new = replace(self, scale=scale, groups=groups)
        stored = np.clip(np.rint(self.floats / new.step), self.low, self.high)
        fits = new.fits(stored)
        if groups is not None and self.groups is not None:
            groups = replace(groups, mult=by_row(fits, groups.mult, self.groups.mult))
        stored = by_row(fits, stored, self.stored).astype(self.stored.dtype)
        return replace(new, groups=groups, scale=np.where(fits, scale, self.scale), stored=stored)


def by_row(mask: Array, new: Array, old: Array) -> Array:
    """new[o] where mask[o], else old[o]."""
    return np.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def ratio_of(has: Array, target: Array) -> Array:
    """(O,) the factors of scales that take channels of deviations `has` to those of `target`."""
    is_flat = (has <= FLAT) | (target <= FLAT)
    ratio = np.where(is_flat, 1.0, target / np.maximum(has, FLAT))
    return ratio.clip(1 / MOST, MOST)


def stored_weights(graph: Graph, reference: Graph, op: Layer) -> StoredWeights | Miss:
    """The weights of a layer, or the reason why they cannot be rounded."""
    name = op.names[0]
    reals = graph.producers.get(op.w.name)
    if not isinstance(reals, Dequantize):
        return Miss("its weights are not stored as integers", name)
    producer = graph.producers.get(reals.x.name)
    scaled = producer if isinstance(producer, ScaleGroups) else None
    constant = graph.producers.get(scaled.w.name) if scaled else producer
    groups = _groups(graph, scaled) if scaled else None
    if not isinstance(constant, Constant) or (scaled and groups is None):
        return Miss("its weights are no constant", name)
    if graph.use_counts[constant.names[0]] > 1 or graph.use_counts[op.w.name] > 1:
        return Miss("its weights are those of another layer too", name)
    quant = constant.result.type.quant
    if np.any(quant.zero_point.array):
        return Miss("its weights have a zero point", name)
    floats = _float_weights(reference, name, constant.value.shape)
    if isinstance(floats, Miss):
        return floats
    bias = _own_bias(graph, op)
    return StoredWeights(
        layer=name,
        constant=constant.names[0],
        reals=op.w.name,
        bias_name=bias.names[0] if bias else "",
        bias=bias.value.array if bias else None,
        stored=constant.value.array,
        scale=quant.scale.array,
        floor=_floor(graph, op, quant.scale.array, bias),
        groups=groups,
        floats=floats,
        low=quant.storage.min,
        high=quant.storage.max,
        x_reach=_reach(graph, op),
    )


def _groups(graph: Graph, op: ScaleGroups) -> GroupMultipliers | None:
    producer = graph.producers.get(op.mult.name)
    if not isinstance(producer, Constant):
        return None
    name = producer.names[0] if graph.use_counts[producer.names[0]] == 1 else ""
    return GroupMultipliers(name, op.block, producer.value.array.astype(np.int64))


def _own_bias(graph: Graph, op: Layer) -> Constant | None:
    """The float constant that is the bias of this layer alone, if it has one."""
    producer = None if op.bias is None else graph.producers.get(op.bias.name)
    is_own = isinstance(producer, Constant) and graph.use_counts[producer.names[0]] == 1
    return (
        producer
        if isinstance(producer, Constant) and is_own and producer.result.type.is_float
        else None
    )


def _float_weights(reference: Graph, name: str, shape: tuple[int, ...]) -> Array | Miss:
    of_float = reference.producers.get(name)
    weights = reference.producers.get(of_float.w.name) if isinstance(of_float, Layer) else None
    if not isinstance(weights, Constant) or not weights.result.type.is_float:
        return Miss("the float graph has no weights of this layer", name)
    if weights.value.shape != shape:
        return Miss(f"float weights are {weights.value.shape}, {shape} is needed", name)
    return weights.value.array.astype(np.float64)


def _floor(graph: Graph, op: Layer, scale: Array, bias: Constant | None) -> Array:
    """What quantize_weights keeps scales above for the bias; no higher than they are."""
    before = graph.producers.get(op.x.name)
    if bias is None or not isinstance(before, Dequantize):
        return np.zeros_like(scale)
    reach = np.abs(bias.value.array.astype(np.float64)) / float(before.x.type.quant.scale.array)
    return np.minimum(scale, (reach if scale.ndim else reach.max()) / LARGEST_BIAS)


def _reach(graph: Graph, op: Layer) -> int:
    """2**bits - 1 of the input's storage: a range that has 0 in it reaches no further."""
    before = graph.producers.get(op.x.name)
    bits = before.x.type.quant.storage.bits if isinstance(before, Dequantize) else 8
    return (1 << bits) - 1


def with_weights(graph: Graph, arrays: Mapping[str, Array], by: str) -> Graph:
    """The graph with constants replaced: new elements by the constant's name, and for stored ones
    new scales by its name and ".scale".
    """

    def replace_constant(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Constant) or op.names[0] not in arrays:
            return op
        elem = op.elem
        if (scale := arrays.get(f"{op.names[0]}.scale")) is not None:
            assert isinstance(elem, Quant)
            elem = Quant.per_axis(elem.storage, scale, 0, axis=0)
        return replace(
            Constant.of(arrays[op.names[0]], elem), names=op.names, loc=op.loc.touched(by)
        )

    return graph.mapped(replace_constant)


def with_float_weights(graph: Graph, weights: Mapping[str, Array]) -> Graph:
    """The graph with float constants in place of the dequantized values that `weights` names."""

    def opened(op: Op, builder: Builder) -> Op:
        reals = weights.get(op.names[0])
        if reals is None:
            return op
        return replace(Constant.of(reals.astype(np.float32)), names=op.names, loc=op.loc)

    return graph.mapped(opened)
