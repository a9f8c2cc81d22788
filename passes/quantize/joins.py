"""Which concats join values of unlike scales that nothing computes with behind them."""

from __future__ import annotations

from collections.abc import Mapping

from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Constant, Dequantize
from qir.ir.ops.shape import Move
from qir.ir.types import U8, Quant
from qir.passes.calibrate.ranges import Ranges
from qir.passes.infra.manager import Miss

UNLIKE = 2.0  # one scale for all would take more than a bit from some
MOST_SCALES = 2**16  # of an output whose axis is merged with others


def split_concats(graph: Graph, ranges: Ranges, misses: list[Miss]) -> set[str]:
    """The results of concats whose operands keep quantizations of their own: the result has a scale
    for each slice along the axis. Outputs take that, and moves that keep the axis; where anything
    else reads such a result, the misses say whose values share a scale with wider ones.
    """
    concats: set[str] = set()
    for op in graph.ops:
        if not isinstance(op, Concat) or not op.result.type.is_float:
            continue
        spans = _spans(graph, ranges, op)
        if not spans or max(spans.values()) <= UNLIKE * min(spans.values()):
            continue
        if (
            is_carried(graph, op.result, op.axis)
            and not _joins_other_axes(graph, op, concats)
            and _fits_one_storage(graph, op)
        ):
            concats.add(op.names[0])
            continue
        narrow, wide = min(spans, key=spans.__getitem__), max(spans, key=spans.__getitem__)
        misses.append(
            Miss(
                f"%{narrow} of range {spans[narrow]:g} shares a scale with %{wide} of range"
                f" {spans[wide]:g}",
                op.names[0],
            )
        )
    return concats


def _spans(graph: Graph, ranges: Ranges, op: Concat) -> Mapping[str, float]:
    """high - low of each operand that is not zero throughout; nothing where one was not seen."""
    spans = {}
    for v in op.xs:
        if isinstance(constant := graph.producers.get(v.name), Constant):
            low, high = (float(f(initial=0)) for f in (constant.value.array.min,
                                                       constant.value.array.max))  # fmt: skip
        elif v.name in ranges.observations:
            low, high = ranges.of([v.name], 256)
        else:
            return {}
        if high > low:
            spans[v.name] = high - low
    return spans


def _fits_one_storage(graph: Graph, op: Concat) -> bool:
    """Whether the operands have one storage, or are values of at most 8 bits, which all fit u8."""
    makers = [_source(graph, v) for v in op.xs]
    storages = {m.x.type.quant.storage if isinstance(m, Dequantize) else U8 for m in makers}
    is_mixed = any(isinstance(m, Concat) for m in makers) or max(s.bits for s in storages) > U8.bits
    return len(storages) == 1 or not is_mixed


def _source(graph: Graph, value: Value) -> Op | None:
    """The op that made the elements of a value, before moves."""
    maker = graph.producers.get(value.name)
    while isinstance(maker, Move) and maker.keeps_slices:
        maker = graph.producers.get(maker.operands[0].name)
    return maker


def in_u8(quant: Quant) -> Quant:
    """The same reals of at most 8 bits, stored in u8."""
    zero = int(quant.zero_point.array) - quant.storage.min
    return Quant.per_tensor(U8, float(quant.scale.array), zero)


def _joins_other_axes(graph: Graph, op: Concat, concats: set[str]) -> bool:
    """Whether an operand has scales of its own along another axis, or behind moves."""
    for v in op.xs:
        maker: Op | None = graph.producers.get(v.name)
        is_direct = True
        while isinstance(maker, Move) and maker.keeps_slices:
            maker, is_direct = graph.producers.get(maker.operands[0].name), False
        if not isinstance(maker, Concat) or maker.names[0] not in concats:
            continue
        if not (is_direct and maker.axis == op.axis):
            return True
    return False


def is_carried(graph: Graph, value: Value, axis: int) -> bool:
    """Whether outputs alone read the value, behind moves that keep the axis."""
    is_output = any(v.name == value.name for v in graph.outputs)
    readers = graph.users.get(value.name, ())
    for reader in readers:
        if isinstance(reader, Concat):
            if reader.axis != axis or not is_carried(graph, reader.result, axis):
                return False
            continue
        if not (isinstance(reader, Move) and reader.keeps_slices):
            return False
        place = reader.place_of(axis)
        if place is None or reader.result.type.shape[place] > MOST_SCALES:
            return False
        if not is_carried(graph, reader.result, place):
            return False
    return is_output or bool(readers)
