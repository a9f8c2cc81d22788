"""The quantization of each group of stored values, from calibrated and given ranges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qir.ir.errors import PassError, listed
from qir.ir.graph import Graph
from qir.ir.op import Interval, Value
from qir.ir.ops import Constant, Quantize
from qir.ir.ops.kinds import Layer
from qir.ir.types import I8, I16, Array, Int, Quant
from qir.passes.calibrate.limits import EVERYWHERE
from qir.passes.calibrate.ranges import Ranges
from qir.passes.integer.rules import BYTE, WORD, Sharing
from qir.passes.quantize.placement import QuantizationPlan
from qir.passes.quantize.weights import LARGEST_BIAS, storage_of
from qir.passes.quantize.widths import STREAM, Widths, is_beside_norm

SMALLEST = 2.0**-64  # a range of finer steps is taken to be zero
HEADROOM = 1 / 8  # of what was seen of a softmax, a sigmoid or a tanh: fresh inputs go beyond
MARGIN = {BYTE: 1.0, WORD: 1.5, STREAM: 2.0}  # of wide values: bits are there, so none is clipped
NO_SCALE = 2.0**-100  # stands for the scale of a zero range until one is chosen


def choose_quants(
    plan: QuantizationPlan, ranges: Ranges | None, widths: Widths
) -> Mapping[str, Quant]:
    """The quantization of each group, by the names of all its members.

    Errors: PassError that lists the values without a pair when there are no ranges.
    """
    quants: dict[str, Quant] = {}
    missing, zeros = [], []
    for group in sorted(map(sorted, plan.members())):
        paired = [n for n in group if n in plan.pairs or _is_join(plan, n)]
        if not paired:
            continue
        quant = _group_quant(plan, ranges, group, paired, widths.stored[paired[0]])
        if quant is None:
            missing += paired
        else:
            quants.update(dict.fromkeys(group, quant))
            if is_of_zeros(quant):
                zeros.append(group)
    if missing:
        raise PassError(
            listed(
                f"quantize-graph: {len(missing)} values have no quantization, calibrated ranges"
                " are needed",
                [f"{plan.graph.producers.get(n) or 'input %' + n}" for n in missing],
            ),
            hint="give calibration data, or a model whose edges all carry their quantization",
        )
    for group in zeros:
        scale = scale_of_zeros(plan.graph, group, quants)
        quants.update(dict.fromkeys(group, of_zeros(quants[group[0]].storage, scale)))
    return quants


def _is_join(plan: QuantizationPlan, name: str) -> bool:
    """Whether several operands share the value's quantization."""
    maker = plan.graph.producers.get(name)
    if maker is None or len(maker.operands) == 1:
        return False
    return plan.answers[maker.names[0]].sharing is not Sharing.NONE


def _group_quant(
    plan: QuantizationPlan, ranges: Ranges | None, group: list[str], paired: list[str], bits: int
) -> Quant | None:
    """The quantization of one group, None where there are no ranges to choose it from."""
    if plan.is_wide or is_beside_norm(plan, group):
        is_given = ranges is not None or all(plan.is_constant(n) for n in paired)
        ends = group_range(plan, ranges, paired, 1 << bits) if is_given else None
        return None if ends is None else quant_around_zero(*ends, bits)
    makers = {type(plan.graph.producers.get(n)) for n in paired}
    first = plan.graph.producers.get(paired[0])
    if len(makers) == 1 and first is not None and first.range_is_open and bits <= BYTE:
        return quant_of_open_range(first.range, ranges, paired, bits)
    if (border := border_quant(plan, group, ranges is not None)) is not None:
        return border
    if ranges is None and not all(plan.is_constant(n) for n in paired):
        return None
    return quant_of_range(*group_range(plan, ranges, paired, 1 << bits), bits)


def quant_of_open_range(
    natural: Interval, ranges: Ranges | None, names: list[str], bits: int
) -> Quant:
    """Of values within a function's natural range, whose ends it does not reach: 2**bits steps of
    what was seen and a HEADROOM more, at most of the natural range; of that alone without `ranges`.
    0 is stored exactly: of values that are all negative, at the greatest integer.
    """
    low, high = natural
    if ranges is not None:
        observation = ranges.seen_of(names)
        ends = (
            min(observation.low, 0.0) * (1 + HEADROOM),
            max(observation.high, 0.0) * (1 + HEADROOM),
        )
        if ends[1] - ends[0] > SMALLEST:
            low, high = max(low, ends[0]), min(high, ends[1])
    levels = 1 << bits
    step = float(np.float32(max((high - low) / levels, -low / (levels - 1))))
    return Quant.per_tensor(storage_of(bits, False), step, round(-low / step))


def border_quant(plan: QuantizationPlan, group: list[str], is_calibrated: bool) -> Quant | None:
    """The one quantization that the model itself gives to values of a group, behind its moves:
    quantize(move(x)) = move(quantize(x)). With calibrated ranges it holds only where nothing else
    reads the group: what the model clips for one reader is not clipped for all.
    """
    readers = [r for name in group for r in plan.graph.users.get(name, ())]
    kinds = {r.to for r in readers if isinstance(r, Quantize) and r.to.is_per_tensor}
    others = [r for r in readers if not isinstance(r, Quantize) and not set(r.names) & set(group)]
    is_output = any(v.name in group for v in plan.graph.outputs)
    if len(kinds) != 1 or (is_calibrated and (others or is_output)):
        return None
    return kinds.pop()


def group_range(
    plan: QuantizationPlan, ranges: Ranges | None, names: list[str], levels: int
) -> tuple[float, float]:
    """The range that all these values need together; constants count with all their elements."""
    low = high = 0.0
    observed = []
    for name in names:
        producer = plan.graph.producers.get(name)
        if isinstance(producer, Constant):
            elements = producer.value.array
            if ranges is not None:
                elements = np.clip(elements, *ranges.limits.get(name, EVERYWHERE))
            low = min(low, float(elements.min(initial=0)))
            high = max(high, float(elements.max(initial=0)))
        else:
            observed.append(name)
    if observed and ranges is not None:
        a, b = ranges.of(observed, levels)
        low, high = min(low, a), max(high, b)
    return low, high


def quant_of_range(low: float, high: float, bits: int) -> Quant:
    """u<bits> that covers [low, high], low <= 0 <= high, with 0 exact; of a zero range: NO_SCALE.

    scale = f32((high - low) / (2**bits - 1)); zero_point = half_even(-low / scale); in 16 bits
    it is i16, whose zero point is 2**15 less.
    """
    levels = 1 << bits
    storage = storage_of(bits, is_signed=False) if bits <= BYTE else I16
    scale = float(np.float32((high - low) / (levels - 1)))
    if not np.isfinite(scale):
        raise PassError(f"quantize-graph: range [{low:g}, {high:g}], a finite one is needed")
    if scale < SMALLEST:
        return of_zeros(storage, NO_SCALE)
    zero = int(np.clip(np.rint(-low / scale), 0, levels - 1))
    return Quant.per_tensor(storage, scale, zero + storage.min)


def quant_around_zero(low: float, high: float, bits: int) -> Quant:
    """i<bits>, zero point 0, that covers [-m, m], m = max(-low, high) * MARGIN[bits]; of a zero
    range: NO_SCALE.
    """
    storage = Int(bits, True)
    scale = float(np.float32(max(-low, high) * MARGIN.get(bits, 1.0) / storage.max))
    if not np.isfinite(scale):
        raise PassError(f"quantize-graph: range [{low:g}, {high:g}], a finite one is needed")
    return Quant.per_tensor(storage, scale, 0) if scale >= SMALLEST else of_zeros(storage, NO_SCALE)


def is_of_zeros(quant: Quant) -> bool:
    return quant.is_per_tensor and float(quant.scale.array) == NO_SCALE


def of_zeros(storage: Int, scale: float) -> Quant:
    return Quant.per_tensor(storage, scale, 0)


def scale_of_zeros(graph: Graph, group: list[str], quants: Mapping[str, Quant]) -> float:
    """The scale of values that calibration saw as zero throughout: every scale holds a zero, so
    the one that serves their readers. A layer's bias is held in steps of it times the weights'
    scale: the largest bias takes a quarter of the steps that there are. A sum or product takes the
    finest scale of its other values, so that these lose no bits.
    """
    scales = []
    for op in (r for name in group for r in graph.users.get(name, ())):
        if isinstance(op, Layer):
            w, bias = (constant(graph, v) for v in (op.w, op.bias))
            if w is not None and bias is not None and np.any(w) and np.any(bias):
                finest = np.abs(bias).max() / (np.abs(w).max() / I8.max * LARGEST_BIAS)
                scales.append(float(np.float32(2 * finest)))
        else:
            others = [quants[v.name] for v in (*op.operands, *op.results) if v.name in quants]
            scales += [float(q.scale.array.min()) for q in others if not is_of_zeros(q)]
    return max(min(scales, default=1.0), SMALLEST)


def constant(graph: Graph, value: Value | None) -> Array | None:
    """The elements of a float constant, None for anything else."""
    producer = None if value is None else graph.producers.get(value.name)
    return producer.value.array if isinstance(producer, Constant) else None
