"""Scales by group for the few layers whose weights one scale per channel breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Dequantize
from qir.ir.ops.kinds import Layer
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array, Quant
from qir.passes.bits.choice import Bits
from qir.passes.infra.layers import bias_of, float_layers, layers_of, weights_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.infra.options import option
from qir.passes.integer.rules import BYTE
from qir.passes.quantize.quantize_graph import add_weights
from qir.passes.quantize.weights import SMALLEST_SCALE, IntegerWeights, quantize_weights

SHARE = 0.03  # of the layers: fewer than so many were at fault in LLaMA3-70B
LEAST_GAIN = 3.0  # dB: half the noise, for one byte more a group
ENOUGH = 30.0  # dB: more than activations in 8 bits leave
FAR_OUT = 3.0  # interquartile ranges beyond the third quartile (Tukey 1977, "far out")
TWICE = 2.0  # the siblings' median: a fence where the siblings hardly differ
NO_SIBLINGS = 8.0  # the fence where a layer is the only one


@dataclass(frozen=True)
class Outlier:
    """The reason to rescue a layer: its outlier ratio, and the gain of groups in dB."""

    statistic: str
    value: float
    fence: float
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.statistic} is {self.value:.3g}, its siblings' fence {self.fence:.3g}; "
            f"a weight has {self.before:.1f} dB, by group {self.after:.1f} dB"
        )


@register
@dataclass(frozen=True)
class RescueGroups(Pass):
    """conv(x, w) -> conv(x, dequantize(scale_groups(constant, mult))), in the few outlier layers

    On a float graph before quantize-graph, which leaves weights that are stored already as they
    are; or on a simulated graph with its float graph as `reference`. The layers are those of
    find_outliers; all others keep what they have. `weight_bits` by default are those that a
    simulated graph stores the layer's weights in, and 8 of a float graph.
    Changes: weights of outlier layers get a scale for each `group` of input channels.
    Errors: PassError for a group outside 32 to 128, or a share outside 0 to 1.
    Source: Qin 2024, arXiv:2408.15301 (mixed per-group and per-channel W8A8); which layers: this
    project.
    """

    name: ClassVar[str] = "rescue-groups"
    claim: ClassVar[Claim] = changes("weights of outlier layers get scales by group")
    stages: ClassVar[tuple[str, ...]] = (*FLOAT_STAGES, "simulated")

    reference: Graph | None = None
    weight_bits: int | None = None
    group: int = option(64, 32, 128)
    share: float = SHARE
    least_gain: float = LEAST_GAIN

    def on(self, reference: Graph, *_: Any) -> RescueGroups:
        """The same pass on a float graph, one of several that choose weights on it."""
        return replace(self, reference=reference)

    def run(self, graph: Graph, record: Record) -> Graph:
        if not 0 < self.share <= 1:
            raise PassError(f"rescue-groups: share {self.share:g}, more than 0 up to 1 is needed")
        source = graph if self.reference is None else self.reference
        weights = float_weights(source)
        if not weights:
            record.misses.append(
                Miss("no layer has float weights: the float graph is needed as the reference")
            )
            return graph
        bits = Bits(self.weight_bits or BYTE, BYTE, self.group)
        layers = stored_bits(graph, bits) if self.weight_bits is None else {}
        outliers = find_outliers(source, bits, self.share, self.least_gain, layers)
        if not outliers:
            record.misses.append(Miss("no layer's weights are far out of its siblings'"))
            return graph
        record.rewrites = len(outliers)
        weights_by_layer = {name: (weights[name], layers.get(name, bits)) for name in outliers}
        return _regrouped(graph, weights_by_layer)


def stored_bits(graph: Graph, bits: Bits) -> dict[str, Bits]:
    """`bits` with the width that each layer's weights are stored in, where they are."""
    widths = {}
    for op in layers_of(graph):
        source = graph.producers.get(op.w.name)
        if isinstance(source, Dequantize):
            widths[op.names[0]] = replace(bits, weight=source.x.type.quant.storage.bits)
    return widths


def find_outliers(
    graph: Graph,
    bits: Bits,
    share: float = SHARE,
    least_gain: float = LEAST_GAIN,
    layers: Mapping[str, Bits] | None = None,
) -> dict[str, Outlier]:
    """The layers of a float graph whose weights one scale per channel breaks, with the reason.

        column ratio  max_j r_j / median_j r_j    r_j = max |w| of input channel j
        row ratio     median over output channels of (max w - min w) / IQR(w)

    A layer is suspected when one of the two lies beyond the third quartile of all other layers' by
    FAR_OUT interquartile ranges, and above TWICE their median. It is confirmed when its typical
    SQNR in bits.weight is below ENOUGH and scales for each bits.group channels bring `least_gain`
    dB; `layers` have bits of their own. Of these at most `share` of the layers, at least one, those
    that gain most.
    Source: Qin 2024, arXiv:2408.15301, section 3 (weights, not activations, are the cause); the
    criterion: this project.
    """
    weights = float_weights(graph)
    suspects = _far_out(weights)
    outliers = {}
    for name, (statistic_name, value, fence) in suspects.items():
        layer_bits = (layers or {}).get(name, bits)
        before, after = (
            typical_sqnr(weights[name], _stored(weights[name], layer_bits, group))
            for group in (0, layer_bits.group)
        )
        if before < ENOUGH and after - before >= least_gain:
            outliers[name] = Outlier(statistic_name, value, fence, before, after)
    most = max(1, int(share * len(weights)))
    best = sorted(outliers, key=lambda n: outliers[n].before - outliers[n].after)[:most]
    return {name: one for name, one in outliers.items() if name in best}


def float_weights(graph: Graph) -> dict[str, Array]:
    """The weights of float_layers in float64, by the names of the layers."""
    weights = {name: weights_of(graph, op) for name, op in float_layers(graph).items()}
    return {name: w.astype(np.float64) for name, w in weights.items() if w is not None}


def _far_out(weights: Mapping[str, Array]) -> dict[str, tuple[str, float, float]]:
    """The statistic of each suspected layer, its value and the fence; the farther of the two."""
    suspects: dict[str, tuple[str, float, float]] = {}
    for statistic_name, statistic in (("column ratio", column_ratio), ("row ratio", row_ratio)):
        values = {name: statistic(w) for name, w in weights.items()}
        for name, value in values.items():
            edge = fence([v for other, v in values.items() if other != name])
            if value > edge and value / edge > _excess(suspects.get(name)):
                suspects[name] = (statistic_name, value, edge)
    return suspects


def _excess(suspect: tuple[str, float, float] | None) -> float:
    return suspect[1] / suspect[2] if suspect else 0.0


def fence(siblings: list[float]) -> float:
    """The outer fence of a value among its siblings."""
    if not siblings:
        return NO_SIBLINGS
    low, middle, high = np.percentile(siblings, (25, 50, 75))
    return float(max(high + FAR_OUT * (high - low), TWICE * middle))


def column_ratio(w: Array) -> float:
    """The largest weight of any input channel over the median channel's, of those that are not
    as good as 0; 1 where there is none.
    """
    reach = np.abs(w).reshape(-1, w.shape[-1]).max(0)
    live = reach[reach > SMALLEST_SCALE * reach.max(initial=0)]
    return float(live.max() / np.median(live)) if live.size else 1.0


def row_ratio(w: Array) -> float:
    """Range over interquartile range of an output channel's weights other than 0, the median."""
    ratios = []
    for row in w.reshape(len(w), -1):
        low, high = np.percentile(row[row != 0], (25, 75)) if row.any() else (0.0, 0.0)
        if high > low:
            ratios.append(float(np.ptp(row[row != 0]) / (high - low)))
    return float(np.median(ratios)) if ratios else 1.0


def typical_sqnr(w: Array, integers: IntegerWeights) -> float:
    """10 * log10(median w^2 / mean (Q(w) - w)^2), in dB, of the weights that are not as good as 0.

    A sum of squares over all would hide, behind few large weights, that nothing is left of others.
    """
    live = np.abs(w) > SMALLEST_SCALE * np.abs(w).max(initial=0)
    noise = float(((integers.reals - w)[live] ** 2).mean()) if live.any() else 0.0
    return 10 * float(np.log10(np.median(w[live] ** 2) / noise)) if noise else float("inf")


def _stored(
    w: Array, bits: Bits, group: int, bias: Array | None = None, x: Quant | None = None
) -> IntegerWeights:
    scale, reach = (1.0, 255) if x is None else (float(x.scale.array), 2**x.storage.bits - 1)
    return quantize_weights(w, bits.weight, True, False, bias, scale, group, reach)


def _regrouped(graph: Graph, weights_by_layer: Mapping[str, tuple[Array, Bits]]) -> Graph:
    def regrouped(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Layer) or op.names[0] not in weights_by_layer:
            return op
        old = graph.producers[op.names[0]]
        assert isinstance(old, Layer)
        weights, bits = weights_by_layer[op.names[0]]
        integers = _stored(weights, bits, bits.group, bias_of(graph, old), _input_quant(graph, old))
        loc = op.loc.touched(RescueGroups.name)
        stored = add_weights(builder, integers, old.w.name, loc)
        return replace(op, w=builder.add(Dequantize(stored, loc=loc)), loc=loc)

    return graph.mapped(regrouped)


def _input_quant(graph: Graph, layer: Layer) -> Quant | None:
    """The quantization that a layer of a simulated graph reads its input in."""
    source = graph.producers.get(layer.x.name)
    return source.x.type.quant if isinstance(source, Dequantize) else None
