"""The text form of a graph; parse(text(g), blobs(g)) == g is a law (docs/reference/text.md)."""

from __future__ import annotations

import json
import numbers
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from qir.ir.data import INLINE, Data
from qir.ir.fixed import Dyadic
from qir.ir.op import Loc, Op, Value, op_fields
from qir.ir.types import Quant, Tensor

if TYPE_CHECKING:
    from qir.ir.graph import Graph


def text(graph: Graph, locs: bool = True) -> str:
    """The graph as text; constants over 16 elements are named by hash and come from `blobs`."""
    inputs = ", ".join(f"{v}: {v.type}" for v in graph.inputs)
    lines = [f"graph @{graph.name} stage={graph.stage} ({inputs}) {{"]
    lines += [f"  {op_text(op, locs)}" for op in graph.ops]
    pairs = zip(graph.outputs, graph.output_names, strict=True)
    outputs = ", ".join(f"{v} as {json.dumps(n)}" if n != v.name else f"{v}" for v, n in pairs)
    lines.append(f"  return {outputs}")
    if graph.states:
        states = ", ".join(f"%{before} = %{after}" for before, after in graph.states)
        lines.append(f"  states {states}")
    return "\n".join([*lines, "}", ""])


def op_text(op: Op, locs: bool = True) -> str:
    """One op as one line of the text form."""
    attribute_fields = op_fields(type(op))
    operands = ", ".join(_operand(getattr(op, f.name)) for f in attribute_fields if f.operand)
    attributes = ", ".join(
        f"{f.name} = {attribute(getattr(op, f.name), f.annotation)}"
        for f in attribute_fields
        if not f.operand
    )
    names = ", ".join(f"%{n}" for n in op.names)
    types = ", ".join(str(v.type) for v in op.results)
    braces = f" {{{attributes}}}" if attributes else ""
    place = _loc(op.loc) if locs else ""
    return f"{names} = {op.mnemonic}({operands}){braces} : {types}{place}"


def attribute(value: Any, hint: Any) -> str:
    """An attribute as text, read back by the annotation `hint` of its field."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(attribute(h, hint) for h in value)}]"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, numbers.Real) and float in (hint, *get_args(hint)):
        return repr(float(value))
    if isinstance(value, numbers.Integral):
        return str(int(value))
    return str(value)


def blobs(graph: Graph) -> dict[str, Data]:
    """Every array of the graph that its text names by hash."""
    arrays: dict[str, Data] = {}
    visited: set[int] = set()
    for value in graph.inputs:
        _collect(value.type, arrays, visited)
    for op in graph.ops:
        for f in op_fields(type(op)):
            if not f.operand:
                _collect(getattr(op, f.name), arrays, visited)
        for value in op.results:
            _collect(value.type, arrays, visited)
    return arrays


def _collect(value: Any, arrays: dict[str, Data], visited: set[int]) -> None:
    match value:
        case Data():
            if value.array.size > INLINE and id(value) not in visited:
                visited.add(id(value))
                arrays[value.digest] = value
        case Tensor():
            _collect(value.elem, arrays, visited)
        case Quant():
            _collect(value.scale, arrays, visited)
            _collect(value.zero_point, arrays, visited)
        case Dyadic():
            _collect(value.mult, arrays, visited)
            _collect(value.shift, arrays, visited)
        case tuple():
            for h in value:
                _collect(h, arrays, visited)


def _operand(operand: Value | tuple[Value, ...] | None) -> str:
    if operand is None:
        return "_"
    if isinstance(operand, tuple):
        return f"[{', '.join(map(str, operand))}]"
    return str(operand)


def _loc(loc: Loc) -> str:
    if loc == Loc():
        return ""
    by = f" by {' '.join(loc.passes)}" if loc.passes else ""
    return f" loc({json.dumps(loc.source)}{by})"
