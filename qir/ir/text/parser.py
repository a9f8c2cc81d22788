"""Reads the text form back; every error names line, column, what was found and what is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import qir.ir.ops  # noqa: F401  (fills OPS)
from qir.ir.data import Data
from qir.ir.errors import QirError
from qir.ir.graph import STAGES, Graph
from qir.ir.op import OPS, Loc, Op, OperandKind, Value, op_fields
from qir.ir.text.literals import Literals


def parse(source: str, blobs: Mapping[str, Data] | None = None) -> Graph:
    """The one graph in `source`; `blobs` gives the arrays that the text names by hash."""
    reader = Reader(source, blobs or {})
    graph = reader.graph()
    if reader.kind != "end":
        reader.fail(f"found {reader.word!r}", "the end of the text is needed after one graph")
    return graph


class Reader(Literals):
    """A recursive-descent reader of graphs."""

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.take("symbol", "a name such as @net")[1:]
        self.expect("stage")
        self.expect("=")
        stage = self.take("word", "a stage")
        if stage not in STAGES:
            self.fail(f"found stage {stage!r}", f"one of {', '.join(STAGES)} is needed")
        scope: dict[str, Value] = {}
        inputs = self.series(lambda: self.declared(scope), "(", ")")
        self.expect("{")
        ops: list[Op] = []
        while not self.accept("return"):
            ops.append(self.op(scope))
        outputs = [self.output(scope)]
        while self.accept(","):
            outputs.append(self.output(scope))
        states = self.states(scope)
        self.expect("}")
        values, names = zip(*outputs, strict=True)
        return Graph(name, inputs, tuple(ops), values, names, stage, states)

    def states(self, scope: dict[str, Value]) -> tuple[tuple[str, str], ...]:
        """The pairs of values that are one buffer, where there are any."""
        pairs: list[tuple[str, str]] = []
        if self.accept("states"):
            pairs.append(self.state(scope))
            while self.accept(","):
                pairs.append(self.state(scope))
        return tuple(pairs)

    def state(self, scope: dict[str, Value]) -> tuple[str, str]:
        before = self.use(scope)
        self.expect("=")
        return before.name, self.use(scope).name

    def declared(self, scope: dict[str, Value]) -> Value:
        name = self.new_name(scope)
        self.expect(":")
        scope[name] = Value(name, self.tensor())
        return scope[name]

    def new_name(self, scope: dict[str, Value]) -> str:
        if self.word[1:] in scope:
            self.fail(f"found {self.word} defined twice", "each value is defined once")
        return self.take("value", "a value such as %x")[1:]

    def output(self, scope: dict[str, Value]) -> tuple[Value, str]:
        value = self.use(scope)
        return value, self.string() if self.accept("as") else value.name

    def use(self, scope: dict[str, Value]) -> Value:
        if self.kind == "value" and self.word[1:] not in scope:
            self.fail(f"found {self.word}", "a value defined before its use is needed")
        return scope[self.take("value", "a value such as %x")[1:]]

    def op(self, scope: dict[str, Value]) -> Op:
        names = [self.new_name(scope)]
        while self.accept(","):
            names.append(self.new_name(scope))
        self.expect("=")
        if self.kind != "word" or self.word not in OPS:
            self.fail(
                f"found op {self.word!r}", "a known op is needed (docs/reference/ops.md lists them)"
            )
        start, cls = self.at, OPS[self.advance()]
        fields = self.operands(cls, scope) | self.attributes(cls)
        self.expect(":")
        types = [self.tensor()]
        while self.accept(","):
            types.append(self.tensor())
        loc = self.loc()
        try:
            op = cls(**fields, names=tuple(names), loc=loc)
            op_types = [v.type for v in op.results]
        except (QirError, ValueError, TypeError, IndexError, OverflowError, ArithmeticError) as e:
            self.at = start
            reason = e.text if isinstance(e, QirError) else str(e)
            self.fail(
                f"found {cls.mnemonic} %{names[0]} with {reason}",
                "operands and attributes that fit are needed",
            )
        if op_types != types:
            self.at = start
            self.fail(
                f"found type {', '.join(map(str, types))}",
                f"{', '.join(map(str, op_types))} is the op's type",
            )
        scope.update({v.name: v for v in op.results})
        return op

    def operands(self, cls: type[Op], scope: dict[str, Value]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        self.expect("(")
        for i, f in enumerate(f for f in op_fields(cls) if f.operand):
            if i:
                self.expect(",")
            if f.operand == OperandKind.MANY:
                fields[f.name] = self.series(lambda: self.use(scope), "[", "]")
            elif f.operand == OperandKind.OPTIONAL and self.accept("_"):
                fields[f.name] = None
            else:
                fields[f.name] = self.use(scope)
        self.expect(")")
        return fields

    def attributes(self, cls: type[Op]) -> dict[str, Any]:
        attribute_fields = [f for f in op_fields(cls) if not f.operand]
        fields: dict[str, Any] = {}
        for i, f in enumerate(attribute_fields):
            self.expect("," if i else "{")
            self.expect(f.name)
            self.expect("=")
            fields[f.name] = self.attribute(f.annotation)
        if attribute_fields:
            self.expect("}")
        return fields

    def loc(self) -> Loc:
        if not self.accept("loc"):
            return Loc()
        self.expect("(")
        source = self.string()
        passes: list[str] = []
        if self.accept("by"):
            while self.kind == "word":
                passes.append(self.advance())
        self.expect(")")
        return Loc(source, tuple(passes))
