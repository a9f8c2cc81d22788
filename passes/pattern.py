"""The rewrite driver: one walk over the ops, a rule for each, every refusal with a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant
from qir.ir.types import Array
from qir.passes.manager import Miss, Pass, Record

MAX_ROUNDS = (
    20  # a rule set that still changes the graph after this many walks is taken to run in circles
)


class Site:
    """Where a rule looks and writes: the new graph so far, and the op at hand."""

    def __init__(self, graph: Graph, by: str) -> None:
        self.graph, self.by = graph, by
        self.builder = Builder(graph.name, graph.stage)
        self.now: dict[str, Value] = {}
        self._old_uses = Counter(v.name for op in graph.ops for v in op.operands)
        self._old_uses.update(v.name for v in graph.outputs)
        self._uses: Counter[str] = Counter()
        self._op: Op | None = None
        for value in graph.inputs:
            self.now[value.name] = self.builder.input(value.name, value.type)
            self._uses[value.name] = self._old_uses[value.name]

    def producer(self, value: Value | None) -> Op | None:
        """The op that defines `value` in the new graph; None for inputs and absent operands."""
        return None if value is None else self.builder.producer(value)

    def uses(self, value: Value) -> int:
        """How often `value` is read, outputs included."""
        return self._uses[value.name]

    def constant(self, value: Value | None) -> Array | None:
        """The stored elements of a constant, None for anything else."""
        op = self.producer(value)
        return op.value.array if isinstance(op, Constant) else None

    def emit(self, op: Op) -> Value:
        """Append an op; it inherits the place of the op at hand, marked with the pass."""
        assert self._op is not None
        loc = (op.loc if op.loc != Loc() else self._op.loc).touched(self.by)
        return self.builder.add(
            replace(op, loc=loc, names=op.names if op.names != self._op.names else ())
        )

    def replace(self, op: Op, *merged: Op) -> Value:
        """Append what stands for the op at hand, under its name; `merged` ops went into it."""
        assert self._op is not None
        loc = Loc.merged(*(m.loc for m in merged), self._op.loc).touched(self.by)
        return self.builder.add(replace(op, loc=loc, names=()), name=self._op.names[0])

    def step(self, op: Op) -> Op:
        """Turn to the next op of the old graph, seen with the new operands."""
        self._op = op.rebind(lambda v: self.now[v.name])
        return self._op

    def keep(self) -> tuple[Value, ...]:
        assert self._op is not None
        return self.builder.add_all(self._op)

    def map(self, old: Op, new: tuple[Value, ...]) -> None:
        for was, value in zip(old.results, new, strict=True):
            if was.type.shape != value.type.shape:
                raise PassError(
                    f"pass {self.by}: {old} gave {was.type}, its replacement gives {value.type}"
                )
            self.now[was.name] = value
            self._uses[value.name] += self._old_uses[was.name]

    def finish(self) -> Graph:
        g = self.graph
        new = self.builder.finish([self.now[v.name] for v in g.outputs], g.output_names)
        return new.without_dead_code()


@dataclass(frozen=True)
class RewritePass(Pass):
    """A pass of one rule, tried at every op in order; producers are already rewritten when a rule
    looks up.

    rewrite(op, at) gives the value that replaces the op's result (made by at.replace or at.emit, or
        an older one),
    or a Miss. Walks repeat until none changes the graph.
    """

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        raise NotImplementedError(type(self).__name__)

    def run(self, graph: Graph, record: Record) -> Graph:
        for _ in range(MAX_ROUNDS):
            before = record.rewrites
            graph = self._walk(graph, record)
            if record.rewrites == before:
                return graph
        raise PassError(
            f"pass {self.name}: still changes the graph after {MAX_ROUNDS} walks, a rule runs in"
            " circles"
        )

    def _walk(self, graph: Graph, record: Record) -> Graph:
        site = Site(graph, self.name)
        misses: list[Miss] = []
        changed = 0
        for old in graph.ops:
            op = site.step(old)
            found = self.rewrite(op, site)
            if isinstance(found, Miss):
                misses.append(Miss(found.why, found.at or old.names[0]))
                site.map(old, site.keep())
            else:
                changed += 1
                site.map(old, (found,))
        record.misses = misses
        record.rewrites += changed
        return site.finish() if changed else graph
