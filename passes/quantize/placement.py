"""Placement of quantization: the values that are stored, and those that share a quantization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import networkx as nx

from qir.ir.errors import LowerError, listed
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Add, Dequantize, Quantize, Sub
from qir.ir.ops.kinds import Layer
from qir.ir.types import Quant
from qir.passes.integer import NoInteger
from qir.passes.integer.rules import Answer, Kind, Needs, Operand, Sharing, ask
from qir.passes.quantize.place_rows import is_wide

SUMS = (Kind.SUM, Kind.CLAMPED, Kind.ROW_SUM, Kind.ROW_TOTAL)


@dataclass
class QuantizationPlan:
    """How all values exist; `pairs` are those that get quantize and dequantize behind them, `edges`
    the (result, operand) readings that get a pair of their own, `groups` shared quantizations,
    `split_concats` the concats whose operands keep quantizations of their own; `is_wide`: values
    between products have more than 8 bits.
    """

    graph: Graph
    split_concats: AbstractSet[str] = frozenset()
    is_wide: bool = False
    values: dict[str, Operand] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)  # of ops, by their first result
    pairs: dict[str, Value] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)
    fixed: set[str] = field(default_factory=set)  # stored values whose quantization is given
    model_quants: dict[str, Quant] = field(default_factory=dict)  # by a dequantize of the model
    groups: nx.Graph[str] = field(default_factory=nx.Graph)

    def is_constant(self, name: str) -> bool:
        return self.values[name].kind is Kind.FIXED or self.values[name].is_known

    def members(self) -> Iterator[set[str]]:
        """The values of each group that share one quantization."""
        yield from nx.connected_components(self.groups)


def plan_quantization(
    graph: Graph, split_concats: AbstractSet[str] = frozenset()
) -> QuantizationPlan:
    """The least set of values to store: those that the integer rules need stored, and the outputs.

    An accumulator whose only reader is a clamp or an add is not stored: one rounding for both.
    A chain of functions of one stored value is one table. The operands of `split_concats` share no
    quantization with them.

    Errors: LowerError that lists every op without an integer form, with its place and the reason.
    """
    walk = PlacementWalk(graph, split_concats)
    while walk.run():
        pass  # a reader needs a value stored that earlier readers took as it is: ask them again
    if walk.faults:
        ops = "1 op" if len(walk.faults) == 1 else f"{len(walk.faults)} ops"
        raise LowerError(
            listed(f"graph @{graph.name}: no integer form for {ops}", walk.faults),
            hint="replace these ops in the model, or leave them outside of it",
        )
    return walk.plan


class PlacementWalk:
    """One walk over the ops that asks the rule of each; stored values add up over the walks."""

    def __init__(self, graph: Graph, split_concats: AbstractSet[str] = frozenset()) -> None:
        self.graph, self.split_concats = graph, split_concats
        self.order = {name: i for i, op in enumerate(graph.ops) for name in op.names}
        self.outputs = {v.name for v in graph.outputs}
        self.requirements: set[str] = set()  # values that some reader needs stored

    def run(self) -> bool:
        """Plan the graph; true if a value turned out to be needed stored too late."""
        self.plan = QuantizationPlan(self.graph, self.split_concats, is_wide(self.graph))
        self.faults, self.is_late = list[str](), False
        for v in self.graph.inputs:
            self._input(v)
        for op in self.graph.ops:
            answer = self._answer(op)
            self.plan.answers[op.names[0]] = answer
            for v in op.results:
                source = answer.source or v.name
                self.plan.values[v.name] = Operand(
                    v, answer.kind, source, answer.elem, answer.is_known, answer.is_exact,
                    self.plan.is_wide,
                )  # fmt: skip
                if self._is_stored_at_once(v, answer.kind):
                    self._store(v)
            self._share(op, answer)
        return self.is_late

    def _input(self, v: Value) -> None:
        if not v.type.is_float:
            self.plan.values[v.name] = Operand(v, Kind.STORED, v.name, v.type.elem)
            self.plan.fixed.add(v.name)
        elif self._is_read_by_quantizes_alone(v):
            self.plan.values[v.name] = Operand(v, Kind.SUM)  # they store it
        else:
            self._store(v)

    def _answer(self, op: Op) -> Answer:
        """The answer of the op's rule, once the values it needs are stored."""
        try:
            while True:
                operands = [self.plan.values[v.name] for v in op.operands]
                answer = ask(op, operands)
                places = self._costly_sums(op, operands)
                if isinstance(answer, Needs):
                    places = answer.places
                elif not places:
                    return answer
                for v in {operands[i].value for i in places}:
                    self._need(v)
        except NoInteger as e:
            self.faults.append(f"{op}: {e.text}")
            return Answer(Kind.STORED)

    def _costly_sums(self, op: Op, operands: Sequence[Operand]) -> tuple[int, ...]:
        """Of the sums that an add takes as they are, those that are better stored: all but the last
        one of a convolution or linear op, so that one buffer of i32 is enough.
        """
        if not isinstance(op, (Add, Sub)):
            return ()
        sums = {v.name: i for i, v in enumerate(op.operands) if operands[i].kind is Kind.SUM}
        makers = {name: self.graph.producers.get(name) for name in sums}
        fits = [
            name
            for name, maker in makers.items()
            if isinstance(maker, Layer) and operands[sums[name]].shape == op.result.type.shape
        ]
        last = max(fits, key=lambda name: self.order[name], default=None)
        return tuple(i for name, i in sums.items() if name != last)

    def _is_stored_at_once(self, v: Value, kind: Kind) -> bool:
        if not v.type.is_float or kind is Kind.STORED:
            return False
        if v.name in self.requirements or v.name in self.outputs:
            return True
        return kind in SUMS and self.graph.use_counts.get(v.name, 0) > 1

    def _need(self, v: Value) -> None:
        """Store an operand; readers before this one are asked again where there are some."""
        if v.name not in self.requirements and self.graph.use_counts[v.name] > 1:
            self.is_late = True
        self.requirements.add(v.name)
        self._store(v)

    def _store(self, v: Value) -> None:
        """Store a value as a pair, unless only quantizes read it."""
        if self._is_read_by_quantizes_alone(v):
            return
        is_known = v.name in self.plan.values and self.plan.is_constant(v.name)
        self.plan.values[v.name] = Operand(
            v, Kind.STORED, v.name, None, is_known, is_wide=self.plan.is_wide
        )
        self.plan.pairs[v.name] = v
        self.plan.groups.add_node(v.name)
        maker = self.graph.producers.get(v.name)
        if maker is not None and maker.range_is_open:
            self.plan.fixed.add(v.name)

    def _is_read_by_quantizes_alone(self, v: Value) -> bool:
        readers = self.graph.users.get(v.name, ())
        is_read = bool(readers) and v.name not in self.outputs
        return is_read and all(isinstance(r, Quantize) for r in readers)

    def _share(self, op: Op, answer: Answer) -> None:
        """Moves keep their operand's quantization; a concat's operands and result have one; those
        of a maximum are read in that of the result.
        """
        plan, result = self.plan, op.results[0]
        if not result.type.is_float or answer.kind is not Kind.STORED:
            return
        if isinstance(op, Dequantize):
            plan.fixed.add(result.name)
            plan.model_quants[result.name] = op.x.type.quant
        elif answer.sharing is Sharing.RESULT:
            plan.groups.add_node(result.name)
            plan.edges.update((result.name, v.name) for v in op.operands)
        elif answer.sharing is Sharing.ALIKE and self.split_concats.isdisjoint(
            (result.name, *(v.name for v in op.operands))
        ):
            self._join(op, result.name)

    def _join(self, op: Op, result: str) -> None:
        plan, is_move = self.plan, len(op.operands) == 1
        quants = {plan.model_quants.get(v.name) for v in op.operands}
        if len(quants) == 1 and (quant := quants.pop()) is not None:
            plan.model_quants[result] = quant
            plan.fixed.add(result)
            return
        plan.groups.add_node(result)
        for v in op.operands:
            if v.name in plan.fixed and not is_move:
                plan.edges.add((result, v.name))
            else:
                plan.groups.add_edge(v.name, result)
        if is_move and op.operands[0].name in plan.fixed:
            plan.fixed.add(result)
