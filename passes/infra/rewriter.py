"""The rewrite driver: one walk over the ops, a rule for each, a reason for every non-match."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

from qir.ir.errors import PassError, QirError, VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant
from qir.ir.types import Array
from qir.passes.infra.manager import Miss, Pass, Record, is_ours, raised

MAX_ROUNDS = (
    20  # a rule set that still changes the graph after this many walks is taken to run in circles
)


@contextmanager
def collection_paused() -> Iterator[None]:
    """No search for garbage cycles meanwhile: graphs have none, and on 100,000 live ops it takes
    half of the time.
    """
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


class Site:
    """Where a rule looks and writes: the new graph so far, and the op at hand.

    Up to the first change the new graph is the old one, and nothing is copied.
    """

    def __init__(self, graph: Graph, by: str) -> None:
        self.graph, self.by = graph, by
        self.builder = Builder(graph.name, graph.stage)
        self.values: dict[str, Value] = {}  # old values that are called otherwise in the new graph
        self._uses: Mapping[str, int] = graph.use_counts
        self._began = False
        self._place = -1  # of the op at hand in the old graph
        self._op: Op | None = None
        self._emitted: list[Op] = []
        self._count = 0
        self._names: set[str] = set()
        self._inputs: dict[str, Value] | None = None

    def producer(self, value: Value | None) -> Op | None:
        """The op that defines `value` in the new graph; None for inputs and absent operands."""
        if value is None:
            return None
        return self.builder.producer(value) if self._began else self.graph.producers.get(value.name)

    def is_defined(self, value: Value) -> bool:
        """Whether `value` is an input, or the result of an op before the one at hand."""
        if self._inputs is None:
            self._inputs = {v.name: v for v in self.graph.inputs}
        if self._inputs.get(value.name) == value:
            return True
        op = self.producer(value)
        return op is not None and value in op.results

    def uses(self, value: Value) -> int:
        """How often `value` is read, outputs included."""
        return self._uses.get(value.name, 0)

    def constant(self, value: Value | None) -> Array | None:
        """The stored elements of a constant, None for anything else."""
        op = self.producer(value)
        return op.value.array if isinstance(op, Constant) else None

    def emit(self, op: Op) -> Value:
        """Append an op; it inherits the place of the op at hand, marked with the name of the
        pass.
        """
        assert self._op is not None
        self._begin()
        loc = (op.loc if op.loc != Loc() else self._op.loc).touched(self.by)
        return self._added(
            self.builder.add(replace(op, loc=loc, names=()), self._free_name(op.mnemonic))
        )

    def replace(self, op: Op, *parts: Op) -> Value:
        """Append the replacement of the current op, under its name; `parts` are part of it."""
        assert self._op is not None
        self._begin()
        loc = Loc.merged(*(m.loc for m in parts), self._op.loc).touched(self.by)
        return self._added(self.builder.add(replace(op, loc=loc, names=()), name=self._op.names[0]))

    def step(self, op: Op) -> Op:
        """Turn to the next op of the old graph, seen with the new operands."""
        values = self.values
        if values and any(v.name in values for v in op.operands):
            op = op.rebind(lambda v: values.get(v.name, v))
        self._op = op
        self._place += 1
        self._emitted.clear()
        return op

    def keep(self, old: Op) -> None:
        """Keep the current op."""
        assert self._op is not None
        if self._began:
            self._map(old, self.builder.add_all(self._op))

    def put(self, old: Op, new: Value) -> None:
        """Replace the result of the current op by `new`."""
        assert self._op is not None
        self._begin()
        counts = self._uses
        assert isinstance(counts, Counter)
        if self._emitted:
            counts.subtract(v.name for v in self._op.operands)
            counts.update(v.name for op in self._emitted for v in op.operands)
        self._map(old, (new,))

    def _begin(self) -> None:
        """Copy the ops before the current one; the graphs differ from here on."""
        if self._began:
            return
        self._began = True
        self._uses = Counter(self._uses)
        self._names = {v.name for v in self.graph.values}
        for value in self.graph.inputs:
            self.builder.input(value.name, value.type)
        for op in self.graph.ops[: self._place]:
            self.builder.add_all(op)

    def _map(self, old: Op, new: tuple[Value, ...]) -> None:
        for old_value, value in zip(old.results, new, strict=True):
            if value is old_value or value == old_value:
                continue
            if old_value.type.shape != value.type.shape:
                raise PassError(
                    f"pass {self.by}: {old} gave {old_value.type}, its replacement gives"
                    f" {value.type}"
                )
            self.values[old_value.name] = value
            if value.name != old_value.name:
                assert isinstance(self._uses, Counter)
                self._uses[value.name] += self._uses[old_value.name]

    def finish(self) -> Graph:
        g = self.graph
        outputs = [self.values.get(v.name, v) for v in g.outputs]
        new = self.builder.finish(outputs, g.output_names).with_states_of(g)
        return new.without_dead_code()

    def _free_name(self, stem: str) -> str:
        """A name that no op of the old graph has, so that kept ops keep theirs."""
        name = stem
        while name in self._names:
            self._count += 1
            name = f"{stem}{self._count}"
        self._names.add(name)
        return name

    def _added(self, value: Value) -> Value:
        op = self.builder.producer(value)
        assert op is not None
        self._emitted.append(op)
        return value


@dataclass(frozen=True)
class RewritePass(Pass):
    """A pass of one rule, tried at every op in order; producers are already rewritten when a rule
    looks up.

    rewrite(op, at) returns the value that replaces the op's result (from at.replace or at.emit, or
    an existing one), or a Miss. Walks repeat until none changes the graph. `roots` are the classes
    of ops that the rule begins at; others are passed by without asking.
    """

    roots: ClassVar[tuple[type[Op], ...]] = (Op,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        raise NotImplementedError(type(self).__name__)

    def run(self, graph: Graph, record: Record) -> Graph:
        for _ in range(MAX_ROUNDS):
            before = record.rewrites
            with collection_paused():
                graph = self._walk(graph, record)
            if record.rewrites == before:
                return graph
        raise PassError(
            f"pass {self.name}: still changes the graph after {MAX_ROUNDS} walks, "
            "a rule runs in circles"
        )

    def _answer(self, op: Op, site: Site) -> Value | Miss:
        """What rewrite says of one op, an error of its own named by pass and op."""
        try:
            result = self.rewrite(op, site)
        except VerifyError as e:  # of an op that the rule made
            raise PassError(e.after(f"pass {self.name}: at {op}")) from e
        except Exception as e:
            if is_ours(self) or isinstance(e, QirError):
                raise
            raise PassError(raised(self, f"at {op}: ", e)) from e
        if not isinstance(result, (Value, Miss)):
            raise PassError(
                f"pass {self.name}: at {op}: rewrite returned {result!r} of"
                f" {type(result).__name__}, a Value or a Miss is needed",
                hint="at.replace(op) and at.emit(op) give the Value of an op",
            )
        if isinstance(result, Value) and not site.is_defined(result):
            raise PassError(
                f"pass {self.name}: at {op}: rewrite returned {result} of {result.type}, which no"
                " op defines; a value of the graph, or of at.replace or at.emit, is needed"
            )
        return result

    def _walk(self, graph: Graph, record: Record) -> Graph:
        if not any(isinstance(op, self.roots) for op in graph.ops):
            return graph
        site = Site(graph, self.name)
        misses: list[Miss] = []
        count = 0
        for old in graph.ops:
            op = site.step(old)
            if not isinstance(op, self.roots):
                site.keep(old)
                continue
            match self._answer(op, site):
                case Miss(why, at):
                    misses.append(Miss(why, at or old.names[0]))
                    site.keep(old)
                case value:
                    count += 1
                    site.put(old, value)
        record.misses = misses
        record.rewrites += count
        return site.finish() if count else graph
