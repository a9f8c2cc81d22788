"""Move transposes to the places where they cost least, and cancel them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qir.ir.axes import Perm, compose, identity, inverse, permuted
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant, Reshape, Transpose
from qir.ir.ops.reduce import Reduce
from qir.passes.canonicalize.layout.assign import Layouts, is_link, through
from qir.passes.canonicalize.layout.permutations import (
    broadcast_shape,
    is_free,
    order,
)
from qir.passes.canonicalize.merge_equal_ops import computes_the_same
from qir.passes.infra.manager import Claim, Pass, Record, keeps_reals, register
from qir.passes.infra.rewriter import collection_paused


@register
@dataclass(frozen=True)
class MoveTransposes(Pass):
    """transpose -> f -> transpose back  becomes  f in the other layout, for every op that can
    follow one.

    The layouts are chosen by Layouts (assign.py), to transpose the fewest elements.
    Transposes remain where two fixed layouts meet; those that move only axes of size 1 are
    reshapes.
    Keeps: reals within 1e-5 (a reduction may add in another order; all else is exact).
    """

    name: ClassVar[str] = "move-transposes"
    claim: ClassVar[Claim] = keeps_reals(1e-5)

    def run(self, graph: Graph, record: Record) -> Graph:
        if not any(isinstance(op, Transpose) for op in graph.ops):
            return graph
        with collection_paused():
            after = Mover(graph, self.name).graph_after()
            if len(after.ops) == len(graph.ops) and computes_the_same(graph, after):
                return graph
        before, remaining = (sum(isinstance(op, Transpose) for op in g.ops) for g in (graph, after))
        record.rewrites += max(1, before - remaining)
        return after


class Mover:
    """Rewrites the graph with each value in the layouts of its readers."""

    def __init__(self, graph: Graph, by: str) -> None:
        self.graph, self.by = graph, by
        self.layouts = Layouts(graph)
        self.builder = Builder(graph.name, graph.stage)
        # A value is its root transposed; a root stands in some layouts, the first one computed.
        self.roots: dict[str, tuple[str, Perm]] = {}
        self.copies: dict[str, dict[Perm, Value]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def graph_after(self) -> Graph:
        g = self.graph
        for value in g.inputs:
            self._define(
                value, identity(value.type.rank), self.builder.input(value.name, value.type)
            )
        for op in g.ops:
            self._write(op)
        outputs = [self.read(v, identity(v.type.rank), Loc()) for v in g.outputs]
        new = self.builder.finish(outputs, g.output_names).with_states_of(g)
        return new.without_dead_code()

    def _define(self, value: Value, perm: Perm, copy: Value) -> None:
        """Record that `copy` is `value` in layout `perm`."""
        self.roots[value.name] = (value.name, identity(value.type.rank))
        self.shapes[value.name] = value.type.shape
        self.copies[value.name] = {perm: copy}

    def read(self, value: Value, perm: Perm, loc: Loc) -> Value:
        """`value` in layout `perm`, transposed at its first use."""
        root, base = self.roots[value.name]
        layout, copies, shape = compose(base, perm), self.copies[root], self.shapes[root]
        if layout not in copies:
            copies[layout] = self._copy(copies, shape, layout, loc.touched(self.by))
        return copies[layout]

    def _copy(
        self, copies: dict[Perm, Value], shape: tuple[int, ...], layout: Perm, loc: Loc
    ) -> Value:
        first_layout, value = next(iter(copies.items()))
        move = compose(inverse(first_layout), layout)
        if isinstance(constant := self.builder.producer(value), Constant):
            permuted_constant = replace(constant.permuted(move), loc=loc)
            return self.builder.add(permuted_constant, name=value.name)
        for other_layout, other in copies.items():
            if order(shape, other_layout) == order(shape, layout):
                return self.builder.add(Reshape(other, permuted(shape, layout), loc=loc))
        return self.builder.add(Transpose(value, move, loc=loc))

    def _write(self, op: Op) -> None:
        if isinstance(op, Constant):
            self._define(op.result, identity(op.result.type.rank), self.builder.add(op))
        elif is_link(op):
            self._link(op)
        elif op.followers() is not None:
            self._follow(op)
        else:
            rebound = op.rebind(lambda v: self.read(v, identity(v.type.rank), op.loc))
            for value, copy in zip(op.results, self.builder.add_all(rebound), strict=True):
                self._define(value, identity(value.type.rank), copy)

    def _follow(self, op: Op) -> None:
        perm = self.layouts.of(op.result)
        tied, lower = op.followers() or (), op.broadcast_operands()

        def bound(value: Value) -> Value:
            if value in lower:
                return self._raised(value, perm, op.loc)
            return self.read(value, perm if value in tied else identity(value.type.rank), op.loc)

        permuted_op = op if perm == identity(len(perm)) else op.in_layout(perm)
        self._define(op.result, perm, self.builder.add(permuted_op.rebind(bound)))

    def _raised(self, value: Value, perm: Perm, loc: Loc) -> Value:
        """An operand of lower rank, with axes of size 1 in front, in layout `perm`."""
        plain = self.read(value, identity(value.type.rank), loc)
        if perm == identity(len(perm)):
            return plain
        shape = broadcast_shape(value.type.shape, len(perm))
        if isinstance(constant := self.builder.producer(plain), Constant):
            array = constant.value.array.reshape(shape).transpose(perm)
            return self.builder.add(Constant.of(array, constant.elem), name=plain.name)
        loc = loc.touched(self.by)
        if is_free(shape, perm):
            return self.builder.add(Reshape(plain, permuted(shape, perm), loc=loc))
        return self.builder.add(
            Transpose(self.builder.add(Reshape(plain, shape, loc=loc)), perm, loc=loc)
        )

    def _link(self, op: Op) -> None:
        x, y = op.operands[0], op.result
        if isinstance(op, Transpose):
            root, base = self.roots[x.name]
            self.roots[y.name] = (root, compose(base, op.perm))
            return
        source, target = self.layouts.of(x), self.layouts.of(y)
        natural = through(op, source)
        if natural is None:
            source, natural = identity(x.type.rank), identity(y.type.rank)
        elif order(y.type.shape, natural) == order(y.type.shape, target):
            natural = target
        operand = self.read(x, source, op.loc)
        link: Op
        if isinstance(op, Reshape):
            link = replace(op, x=operand, shape=permuted(y.type.shape, natural))
        else:
            assert isinstance(op, Reduce)
            natural = through(op, source) or ()
            axes = tuple(sorted(source.index(a) for a in op.axes))
            link = replace(op, x=operand, axes=axes)
        self._define(y, natural, self.builder.add(link))
