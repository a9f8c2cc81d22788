"""Which values of a float graph become stored integers, and which share one quantization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import networkx as nx

from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Add,
    BatchNorm,
    Concat,
    Constant,
    Dequantize,
    PRelu,
    Quantize,
    Softmax,
    Sub,
)
from qir.ir.ops.elementwise import Binary
from qir.ir.ops.kinds import Elementwise, Layer, Selection
from qir.ir.ops.unary import Clamp
from qir.ir.types import Quant


class Form(Enum):
    """How the integers of a value exist when its op is done."""

    CONSTANT = "constant"
    STORED = "stored"  # 8 bits or fewer, one scale
    SUM = "sum"  # an exact i32 accumulator, or a sum of such: a requantize stores it
    FUNCTION = "function"  # a function of one stored value: a table stores it


@dataclass
class Plan:
    """The forms of all values; `pairs` are those that get quantize and dequantize behind them,
    `edges` the (op, operand) readings that get a pair of their own, `groups` shared quantizations.
    """

    graph: Graph
    forms: dict[str, Form] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)  # of functions: the stored value
    pairs: dict[str, Value] = field(default_factory=dict)
    edges: dict[tuple[str, str], Value] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)  # stored values whose quantization is given
    given: dict[str, Quant] = field(default_factory=dict)  # by a dequantize of the model
    groups: nx.Graph[str] = field(default_factory=nx.Graph)

    def forms_before(self, name: str) -> Form | None:
        """The form of a value that is known already, of constants even before the walk is there."""
        is_constant = isinstance(self.graph.producers.get(name), Constant)
        return Form.CONSTANT if is_constant else self.forms.get(name)

    def members(self) -> Iterator[set[str]]:
        """The values of each group that share one quantization."""
        yield from nx.connected_components(self.groups)


def plan_quantization(graph: Graph) -> Plan:
    """The least set of values to store: what contractions, tables and moves read, and the outputs.

    An accumulator whose only reader is a clamp or an add is not stored: one rounding for both.
    A chain of functions of one stored value is one table.
    """
    plan = Plan(graph)
    outputs = {v.name for v in graph.outputs}
    for v in graph.inputs:
        if v.type.is_float:
            store(plan, v)
        else:
            plan.forms[v.name] = Form.STORED
            plan.fixed.add(v.name)
    for op in graph.ops:
        demand(plan, op)
        form = form_of(plan, op)
        for v in op.results:
            plan.forms[v.name] = form
            if form in (Form.SUM, Form.FUNCTION):
                readers = graph.users.get(v.name, ())
                if v.name in outputs or not all(absorbs(plan, r, v) for r in readers):
                    store(plan, v)
            elif form is Form.CONSTANT and v.name in outputs:
                store(plan, v)
        if form is Form.STORED:
            share(plan, op)
    return plan


def store(plan: Plan, value: Value) -> None:
    """Give `value` a pair, unless a quantize already reads it and nothing else does."""
    readers = plan.graph.users.get(value.name, ())
    is_output = any(v.name == value.name for v in plan.graph.outputs)
    if readers and not is_output and all(isinstance(r, Quantize) for r in readers):
        plan.forms.setdefault(value.name, Form.SUM)  # an input: those who read it store it
        return
    plan.forms[value.name] = Form.STORED
    plan.pairs[value.name] = value
    plan.groups.add_node(value.name)
    producer = plan.graph.producers.get(value.name)
    if producer is not None and producer.range_is_open:
        plan.fixed.add(value.name)


def demand(plan: Plan, op: Op) -> None:
    """Constant operands that the op needs as stored integers get a pair."""
    if isinstance(op, (Layer, Constant, Quantize, Dequantize, BatchNorm, PRelu)):
        return
    if isinstance(op, Binary) and function_source(plan, op) is not None:
        return
    if isinstance(op, (Add, Sub)):
        return
    for v in op.operands:
        if plan.forms[v.name] is Form.CONSTANT and v.type.is_float:
            if all(plan.forms[w.name] is Form.CONSTANT for w in op.operands):
                return
            store(plan, v)


def form_of(plan: Plan, op: Op) -> Form:
    """The form of the op's result, from those of its operands."""
    if isinstance(op, (Constant,)) or (
        op.operands and all(plan.forms[v.name] is Form.CONSTANT for v in op.operands)
    ):
        return Form.CONSTANT
    if isinstance(op, Quantize):
        return Form.STORED
    if isinstance(op, Dequantize):
        plan.fixed.add(op.names[0])
        plan.given[op.names[0]] = op.x.type.quant
        return Form.STORED
    if isinstance(op, Selection):
        return Form.STORED
    if (source := function_source(plan, op)) is not None:
        plan.source[op.names[0]] = source
        return Form.FUNCTION
    if isinstance(op, Clamp):
        return Form.SUM
    if isinstance(op, Softmax):
        return Form.FUNCTION
    return Form.SUM


def function_source(plan: Plan, op: Op) -> str | None:
    """The stored value that the op's result is an elementwise function of, channel by channel."""
    if not isinstance(op, Elementwise):
        return None
    sources = set()
    for v in op.operands:
        form = plan.forms[v.name]
        if form is Form.CONSTANT:
            if any(s != 1 for s in v.type.shape[:-1]):
                return None
        elif form is Form.STORED and v.type.shape == op.results[0].type.shape:
            sources.add(v.name)
        elif form is Form.FUNCTION and v.name in plan.source:
            sources.add(plan.source[v.name])
        else:
            return None
    return sources.pop() if len(sources) == 1 else None


def absorbs(plan: Plan, reader: Op, value: Value) -> bool:
    """Whether `reader` takes the value as it is, so that it need not be stored first."""
    if isinstance(reader, Quantize):
        return True
    form = plan.forms[value.name]
    if form is Form.FUNCTION:
        return value.name in plan.source and continues(plan, reader, plan.source[value.name])
    if len(plan.graph.users.get(value.name, ())) != 1:
        return False
    if isinstance(reader, Clamp):
        return True
    producer = plan.graph.producers[value.name]
    if isinstance(reader, (Add, Sub)) and isinstance(producer, Layer):
        other = reader.b if reader.a.name == value.name else reader.a
        known = plan.forms.get(other.name)
        late = known is None and isinstance(plan.graph.producers.get(other.name), Layer)
        # Of two accumulators the later one is left to the add, so that one buffer of i32 is enough.
        return value.type.shape == reader.result.type.shape and not (late and alone(plan, other))
    return False


def alone(plan: Plan, value: Value) -> bool:
    return len(plan.graph.users.get(value.name, ())) == 1


def continues(plan: Plan, reader: Op, source: str) -> bool:
    """Whether `reader` is one more step of a function of `source`."""
    if not isinstance(reader, Elementwise):
        return False
    for v in reader.operands:
        if plan.forms_before(v.name) is Form.CONSTANT:
            if any(s != 1 for s in v.type.shape[:-1]):
                return False
        elif v.name not in plan.forms or source not in (v.name, plan.source.get(v.name)):
            return False
    return True


def is_move(op: Op) -> bool:
    """Whether the result is stored as the one operand is."""
    return isinstance(op, Selection) and not isinstance(op, Concat)


def share(plan: Plan, op: Op) -> None:
    """Moves keep their operand's quantization; a concat's operands and result have one."""
    result = op.results[0].name
    if is_move(op):
        moved = op.operands[0].name
        if moved in plan.fixed:
            plan.fixed.add(result)
        if moved in plan.given:
            plan.given[result] = plan.given[moved]
        else:
            plan.groups.add_edge(moved, result)
    elif isinstance(op, Concat):
        given = {plan.given.get(v.name) for v in op.xs}
        if len(given) == 1 and (same := given.pop()) is not None:
            plan.given[result] = same
            plan.fixed.add(result)
            return
        plan.groups.add_node(result)
        for v in op.xs:
            if v.name in plan.fixed:
                plan.edges[result, v.name] = v
            else:
                plan.groups.add_edge(v.name, result)
