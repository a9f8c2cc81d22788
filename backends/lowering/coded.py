"""Fusions that go on to codes of rows: norms, curves, products and stored elements, then row_scale
and quantize_rows of what they give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qir.backends.kernels.sequence.codes import MOST_BLOCK
from qir.backends.lowering.fuse import Coded, Fusion
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Interpolate, Mul, NormFixed, QuantizeRows, RowScale

SHORT = ("int8", "int16")
"""What products read."""


def with_codes(graph: Graph, fusions: Sequence[Fusion]) -> tuple[Fusion, ...]:
    """The fusions with each row_scale and its quantize_rows in one: in that of the op that gives
    their elements, where a kernel does both, and there is its own place.
    """
    pairs = {pair.scale.x.name: pair for pair in _pairs(graph)}
    alone = {f.anchor.names[0]: f for f in fusions if len(f.ops) == 1}
    coded: dict[str, Fusion] = {}  # by the anchor
    followers: set[str] = set()  # anchors that another fusion has with its own
    for name, pair in pairs.items():
        maker = alone.get(name)
        if maker is not None and _has_kernel(maker.anchor, pair):
            fusion = _with_curve(graph, replace(maker, coded=pair))
            followers.update((pair.scale.names[0], *((fusion.curve.names) if fusion.curve else ())))
        else:
            fusion = Fusion(pair.scale, coded=replace(pair, keeps_elements=False))
        coded[fusion.anchor.names[0]] = fusion
        followers.add(pair.codes.names[0])
    anchors = [f for f in fusions if f.anchor.names[0] not in followers]
    return tuple(coded.get(f.anchor.names[0], f) for f in anchors)


def _pairs(graph: Graph) -> list[Coded]:
    """Every row_scale with the quantize_rows that reads it: the first of an operand."""
    outputs, pairs, names = {v.name for v in graph.outputs}, [], set()
    for op in graph.ops:
        if not isinstance(op, QuantizeRows) or op.x.name in names:
            continue
        scale = graph.producers.get(op.scale.name)
        if isinstance(scale, RowScale) and (scale.x, scale.block) == (op.x, op.block):
            names.add(op.x.name)
            others = [u for u in graph.users[op.x.name] if u is not op and u is not scale]
            pairs.append(Coded(scale, op, bool(others) or op.x.name in outputs))
    return pairs


def _has_kernel(maker: Op, pair: Coded) -> bool:
    """Whether a kernel gives the elements and their codes."""
    block, x = pair.scale.block, pair.scale.x
    if block > MOST_BLOCK:
        return False
    match maker:
        case NormFixed():
            return block == x.type.shape[-1]
        case Interpolate():
            return True
        case Mul():
            return not pair.keeps_elements and all(_is_short(v) for v in (maker.a, maker.b))
    return False


def _is_short(value: Value) -> bool:
    """Stored as it is multiplied."""
    q = value.type.quant
    return str(q.carrier) in SHORT and q.is_per_tensor and q.zero_point.item() == 0


def _with_curve(graph: Graph, fusion: Fusion) -> Fusion:
    """The curve that gives an operand of a product, if nobody else reads it."""
    if not isinstance(fusion.anchor, Mul):
        return fusion
    for value in fusion.anchor.operands:
        curve = graph.producers.get(value.name)
        if isinstance(curve, Interpolate) and _is_own(graph, fusion.anchor, value):
            return replace(fusion, curve=curve)
    return fusion


def _is_own(graph: Graph, op: Op, value: Value) -> bool:
    """Whether an operand is read by `op` alone, once, and gives an element for each of its own."""
    is_read = len(graph.users[value.name]) > 1 or op.operands.count(value) > 1
    is_seen = is_read or value in graph.outputs
    return not is_seen and value.type.shape == op.result.type.shape and _is_word(value)


def _is_word(value: Value) -> bool:
    return str(value.type.quant.carrier) == "int16"
