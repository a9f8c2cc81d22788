"""Bits of each stored value of a plan, and the layers that read fewer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qir.ir.op import Op
from qir.ir.ops import Add, Hadamard, LayerNorm, RmsNorm, Sub
from qir.ir.ops.kinds import Contraction, Layer
from qir.passes.bits.choice import Bits
from qir.passes.integer.rules import BYTE, WORD, Kind, Sharing
from qir.passes.quantize.placement import QuantizationPlan

STREAM = 20  # of a sum that many layers add to: what is small in it counts too


@dataclass
class Widths:
    """`stored`: bits of each value with a pair, by name; `reads`: bits in which a contraction reads
    its input, by the name of its result, where these are fewer than the stored ones.
    """

    stored: dict[str, int] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)


def activation_widths(plan: QuantizationPlan, bits: Mapping[str, Bits], default: int) -> Widths:
    """A value has the bits that the contractions which read it ask for, 8 where none reads it.

    `bits` are those of single layers, `default` of the others, whose bits do not hold for what the
    network's inputs bring: those keep 8. A value that layers of several widths read is stored in
    the most of them, and one that a sum reads too in 16 bits when a layer asks for less than 8
    (as HAWQ-V3, arXiv:2011.10680, keeps residuals); narrower readers round it once more. What a
    norm reads or makes has 16 where its other readers take them. The parts of an output that keep
    scales of their own have 8. Of a wide plan: `wide_widths`.
    """
    if plan.is_wide:
        return wide_widths(plan)
    widths = Widths()
    for group in sorted(map(sorted, plan.members())):
        readers = [r for name in group for r in plan.graph.users.get(name, ())]
        layers = [r for r in readers if isinstance(r, Contraction)]
        others = [r for r in readers if not isinstance(r, Contraction)]
        is_input = any(v.name in group for v in plan.graph.inputs)
        is_output = any(v.name in group for v in plan.graph.outputs)
        requests = {r.names[0]: _requested_bits(r, bits, default, is_input) for r in layers}
        most = max(requests.values(), default=BYTE)
        if (others and len(group) == 1) or is_input or is_output:
            most = max(most, BYTE)
        if _is_residual(plan, group, others) and min(requests.values(), default=BYTE) < BYTE:
            most = WORD
        if is_beside_norm(plan, group) and others and not (is_input or is_output):
            most = max(most, least_limit(plan, group, readers))
        if any(r.names[0] in plan.split_concats for r in others):
            most = BYTE  # the parts of an output have one storage
        widths.stored.update(dict.fromkeys(group, most))
        single = {r.names[0]: requests[r.names[0]] for r in layers if isinstance(r, Layer)}
        widths.reads.update({name: width for name, width in single.items() if width < most})
    return widths


def is_beside_norm(plan: QuantizationPlan, group: Iterable[str]) -> bool:
    """Whether a norm reads or makes a value of the group: its integers have zero point 0."""
    graph = plan.graph
    ops = [op for name in group for op in (graph.producers.get(name), *graph.users.get(name, ()))]
    return any(isinstance(op, LayerNorm) for op in ops)


def least_limit(plan: QuantizationPlan, group: list[str], readers: list[Op]) -> int:
    """WORD where all these readers take it, else BYTE; layers read a pair of their own."""
    rest = [r for r in readers if not (isinstance(r, Layer) or set(r.names) & set(group))]
    limits = [plan.answers[r.names[0]].bits for r in rest]
    return WORD if min(limits, default=WORD) >= WORD else BYTE


def wide_widths(plan: QuantizationPlan) -> Widths:
    """As many bits as all readers take: STREAM of what sums and norms read, at most 16 of others
    and of what a curve draws; a layer that reads a wider value than its 8 bits has a pair of its
    own.
    """
    widths = Widths()
    for group in sorted(map(sorted, plan.members())):
        readers = [r for name in group for r in plan.graph.users.get(name, ())]
        readers = [r for r in readers if not set(r.names) & set(group)]
        layers = [r for r in readers if isinstance(r, Layer)]
        others = [r for r in readers if not isinstance(r, Layer)]
        is_stream = any(map(_is_of_stream, others))
        limits = [plan.answers[r.names[0]].bits for r in others or layers]
        makers = [plan.graph.producers.get(name) for name in group]
        is_curve = any(m and plan.answers[m.names[0]].kind is Kind.TABLE for m in makers)
        most = min([STREAM if is_stream and not is_curve else WORD, *limits])
        most = most if most >= WORD else BYTE
        widths.stored.update(dict.fromkeys(group, most))
        if most > BYTE:
            widths.reads.update({r.names[0]: BYTE for r in layers})
    return widths


def _is_of_stream(op: Op) -> bool:
    """Whether it reads a sum that many layers add to: it adds, norms, or turns all of a row."""
    is_turned = isinstance(op, Hadamard) and op.size == op.x.type.shape[-1]
    return is_turned or isinstance(op, (Add, Sub, RmsNorm, LayerNorm))


def _requested_bits(layer: Op, bits: Mapping[str, Bits], default: int, is_input: bool) -> int:
    layer_bits = bits.get(layer.names[0])
    if layer_bits is not None:
        return layer_bits.activation
    return max(default, BYTE) if is_input else default


def _is_residual(plan: QuantizationPlan, group: list[str], others: list[Op]) -> bool:
    """One value that sums read: moves and pools, which share a quantization, have 8 bits."""
    is_summed = bool(others) and all(plan.answers[r.names[0]].bits >= WORD for r in others)
    maker = plan.graph.producers.get(group[0])
    is_shared = maker is not None and plan.answers[maker.names[0]].sharing is not Sharing.NONE
    return len(group) == 1 and is_summed and not is_shared
