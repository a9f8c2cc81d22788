"""Graph: inputs, ops in order, outputs; immutable. A pass takes one and gives another."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import networkx as nx

from qir.ir.errors import VerifyError
from qir.ir.op import Loc, Op, Value
from qir.ir.text.printer import text
from qir.ir.types import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("imported", "canonical", "transformed", "simulated", "integer")


@dataclass(frozen=True, repr=False)
class Graph:
    """A program in SSA form: each value is defined once, before its uses. str(graph) is its text.

    `output_names` are the model's own names of `outputs`; inputs carry theirs. `stage` is one of
    STAGES. `states`: the names of an input and an output value, pair by pair, that are one buffer,
    kept from call to call: a cache of keys.
    """

    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    stage: str
    states: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        return f"<graph @{self.name} stage={self.stage}, {len(self.ops)} ops>"

    @cached_property
    def producers(self) -> Mapping[str, Op]:
        """The op that defines each value, by the value's name; inputs have none."""
        return {name: op for op in self.ops for name in op.names}

    @cached_property
    def users(self) -> Mapping[str, tuple[Op, ...]]:
        """The ops that read each value, in order, once for each reading; values nobody reads are
        absent.
        """
        users: dict[str, list[Op]] = {}
        for op in self.ops:
            for value in op.operands:
                users.setdefault(value.name, []).append(op)
        return {name: tuple(ops) for name, ops in users.items()}

    @cached_property
    def use_counts(self) -> Mapping[str, int]:
        """How often each value is read, outputs included, by the value's name."""
        counts = Counter(v.name for op in self.ops for v in op.operands)
        counts.update(v.name for v in self.outputs)
        return counts

    @property
    def values(self) -> Iterator[Value]:
        yield from self.inputs
        for op in self.ops:
            yield from op.results

    def networkx(self) -> nx.MultiDiGraph[str]:
        """A view for analyses: a node for each input and op (keyed by its first result), an edge
        for each reading.
        """
        g: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for value in self.inputs:
            g.add_node(value.name, op=None)
        home = {name: op.names[0] for op in self.ops for name in op.names}
        for op in self.ops:
            g.add_node(op.names[0], op=op)
            for value in op.operands:
                g.add_edge(home.get(value.name, value.name), op.names[0], value=value.name)
        return g

    def at_stage(self, stage: str) -> Graph:
        return replace(self, stage=stage)

    def canonical(self) -> Graph:
        """The same graph with values named in order and places forgotten: equal when the structure
        is.
        """
        counter = itertools.count()
        new: dict[str, Value] = {}
        for value in self.inputs:
            new[value.name] = Value(f"v{next(counter)}", value.type)
        ops = []
        for op in self.ops:
            names = tuple(f"v{next(counter)}" for _ in op.names)
            renamed = replace(op.rebind(lambda v: new[v.name]), names=names, loc=Loc())
            new.update(zip(op.names, renamed.results, strict=True))
            ops.append(renamed)
        return replace(
            self,
            inputs=tuple(new[v.name] for v in self.inputs),
            ops=tuple(ops),
            outputs=tuple(new[v.name] for v in self.outputs),
            states=tuple((new[before].name, new[after].name) for before, after in self.states),
        )

    def mapped(self, change: Callable[[Op, Builder], Op | tuple[Value, ...]]) -> Graph:
        """The graph with `change(op, builder)` in place of each op, in order.

        op reads the new graph's values already. change gives the op that stands for it, which keeps
        its names, or the values that stand for its results. Ops and inputs that change adds by the
        builder get names that no value of this graph has; so a value of both graphs that is of one
        name is of one op. Where something changed, ops that no output needs are dropped.
        """
        builder = Builder(self.name, self.stage, reserved=self.producers)
        values = {v.name: builder.input(v.name, v.type) for v in self.inputs}
        for old in self.ops:
            new = change(old.rebind(lambda v: values[v.name]), builder)
            if isinstance(new, Op):
                new = builder.keep(new if new.names == old.names else new.named(old.names))
            values.update(zip(old.names, new, strict=True))
        outputs = [values[v.name] for v in self.outputs]
        after = builder.finish(outputs, self.output_names).with_states_of(self)
        return self if after == self else after.without_dead_code()

    def with_states_of(self, before: Graph) -> Graph:
        """The graph with the states of `before`, which has the same inputs and as many outputs."""
        if not before.states:
            return self
        at = {value.name: i for i, value in reversed([*enumerate(before.outputs)])}
        states = tuple((name, self.outputs[at[result]].name) for name, result in before.states)
        return replace(self, states=states)

    def without_dead_code(self) -> Graph:
        """The same graph without the ops that no output needs."""
        live = {v.name for v in self.outputs}
        ops = []
        for op in reversed(self.ops):
            if live.intersection(op.names):
                live.update(v.name for v in op.operands)
                ops.append(op)
        return self if len(ops) == len(self.ops) else replace(self, ops=tuple(reversed(ops)))


class Builder:
    """Collects ops into a graph and gives their results unique names; the only mutable thing around
    a graph.
    """

    def __init__(self, name: str, stage: str, reserved: Iterable[str] = ()) -> None:
        """`reserved`: names that only keep() assigns, to the ops that have them already."""
        self.name, self.stage = name, stage
        self._reserved = set(reserved)
        self._inputs: list[Value] = []
        self._ops: dict[str, Op] = {}  # by first result name, in order
        self._used_names: set[str] = set()
        self._counts: dict[str, int] = {}

    def input(self, name: str, type_: Tensor) -> Value:
        value = Value(self.reserve(name), type_)
        self._inputs.append(value)
        return value

    def add(self, op: Op, name: str | None = None) -> Value:
        """Append an op with one result; its name is `name`, else the op's own, else the mnemonic
        and a number.
        """
        (value,) = self.add_all(op, None if name is None else (name,))
        return value

    def add_all(self, op: Op, names: tuple[str, ...] | None = None) -> tuple[Value, ...]:
        """Append an op with any number of results."""
        used_names, reserved = self._used_names, self._reserved
        name = op.names[0] if names is None and len(op.names) == 1 else ""
        if name and name not in used_names and name not in reserved:
            used_names.add(name)  # the usual way of passes that keep most ops
            self._ops[name] = op
            return op.results
        types: tuple[Tensor, ...] | None = None
        if not op.names:
            out = op.infer()
            types = out if isinstance(out, tuple) else (out,)
        names = names or op.names or (op.mnemonic,) * len(types or ())
        unique = tuple(self.reserve(n) for n in names)
        renamed = op if op.names == unique else op.named(unique, types)
        self._ops[unique[0]] = renamed
        return renamed.results

    def keep(self, op: Op) -> tuple[Value, ...]:
        """Append an op under its own names, which were reserved for it."""
        self._reserved.difference_update(op.names)
        return self.add_all(op)

    def reserve(self, name: str) -> str:
        """`name`, or `name` and the first free number after it."""
        if name not in self._used_names and name not in self._reserved:
            self._used_names.add(name)
            return name
        stem = name if name[-1:].isalpha() else f"{name}_"
        while True:
            self._counts[stem] = number = self._counts.get(stem, 0) + 1
            candidate = f"{stem}{number}"
            if candidate not in self._used_names and candidate not in self._reserved:
                self._used_names.add(candidate)
                return candidate

    def producer(self, value: Value) -> Op | None:
        """The op added so far that defines `value` (by its first result), None for an input."""
        return self._ops.get(value.name)

    def finish(self, outputs: Iterable[Value], output_names: Iterable[str] | None = None) -> Graph:
        outs = tuple(outputs)
        names = tuple(output_names) if output_names is not None else tuple(v.name for v in outs)
        if len(names) != len(outs):
            raise VerifyError(f"graph {self.name}: {len(names)} output names, {len(outs)} outputs")
        return Graph(
            self.name, tuple(self._inputs), tuple(self._ops.values()), outs, names, self.stage
        )
