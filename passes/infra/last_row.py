"""The same graph with the logits of one token alone: all that a prompt's reader needs."""

from __future__ import annotations

from dataclasses import replace

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Constant,
    Interpolate,
    Lookup,
    Requantize,
    Reshape,
    ScaleGroups,
    SliceRows,
)
from qir.ir.ops.kinds import Elementwise
from qir.ir.states import caller_inputs
from qir.ir.types import I32, Tensor
from qir.passes.infra.manager import Miss


def with_last_row(graph: Graph) -> Graph | Miss:
    """An integer graph whose first output has rows (1, N, C) -> the same graph with row `last`,
    (1, 1, C), in its place; last () i32 is an input behind those that a caller gives.

    Ops that compute along rows and that nothing else reads have this row alone; it is taken where
    others begin: behind the last attention.
    Keeps: every bit of that row and of the other outputs.
    """
    return LastRow(graph).run()


class LastRow:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.logits = graph, graph.outputs[0]
        self.shape = self.logits.type.shape[:2]  # (1, N)
        self.narrow = self._narrow()
        self.values: dict[str, Value] = {}
        self.rows: dict[str, Value] = {}

    def run(self) -> Graph | Miss:
        if len(self.logits.type.shape) != 3 or self.shape[0] != 1:
            return Miss(f"{self.logits.type}, rows (1, N, C) are needed", self.logits.name)
        if self.logits.name not in self.narrow:
            return Miss("it is not computed along rows", self.logits.name)
        self.builder = Builder(self.graph.name, self.graph.stage)
        inputs = {v.name for v in caller_inputs(self.graph)}
        for is_given in (True, False):
            for v in self.graph.inputs:
                if (v.name in inputs) == is_given:
                    self.values[v.name] = self.builder.input(v.name, v.type)
            if is_given:
                self.last = self.builder.input("last", Tensor((), I32))
        for op in self.graph.ops:
            source = self.row if op.names[0] in self.narrow else self._all_rows
            new = op.rebind(source)
            results = self.builder.add_all(replace(new, names=op.names))
            self.values.update((v.name, r) for v, r in zip(op.results, results, strict=True))
        outputs = [self.values[v.name] for v in self.graph.outputs]
        after = self.builder.finish(outputs, self.graph.output_names)
        states = tuple((self.values[a].name, self.values[b].name) for a, b in self.graph.states)
        return replace(after, states=states).without_dead_code()

    def _narrow(self) -> set[str]:
        """The values of which only this row is needed, by what computes along rows."""
        rows: set[str] = set()
        others = {v.name for v in self.graph.outputs[1:]}
        for op in reversed(self.graph.ops):
            name = op.names[0]
            readers = self.graph.users.get(name, ())
            is_read_by_rows = all(r.names[0] in rows for r in readers) and name not in others
            if is_read_by_rows and self._is_of_rows(op):
                rows.add(name)
        return rows

    def _is_of_rows(self, op: Op) -> bool:
        """Whether row i of its result depends on row i of each operand alone, and on constants."""
        kinds = (Elementwise, Requantize, Lookup, Interpolate)
        if not (isinstance(op, kinds) or op.is_pointwise or op.last_axes == 1):
            return False
        operands = [v for v in op.operands if not self._is_constant(v)]
        values = (op.results[0], *operands)
        are_rows = (v.type.rank == 3 and v.type.shape[:2] == self.shape for v in values)
        return len(op.names) == 1 and bool(operands) and all(are_rows)

    def _is_constant(self, v: Value) -> bool:
        maker = self.graph.producers.get(v.name)
        return isinstance(maker, Constant | ScaleGroups) and v.type.shape[:2] != self.shape

    def _all_rows(self, v: Value) -> Value:
        return self.values[v.name]

    def row(self, v: Value) -> Value:
        """This row of an operand."""
        if v.name in self.narrow or self._is_constant(v):
            return self.values[v.name]
        if v.name not in self.rows:
            rows = self.builder.add(Reshape(self.values[v.name], v.type.shape[1:]))
            row = self.builder.add(SliceRows(rows, self.last, 1), f"{v.name}_last")
            self.rows[v.name] = self.builder.add(Reshape(row, (1, 1, v.type.shape[2])))
        return self.rows[v.name]
