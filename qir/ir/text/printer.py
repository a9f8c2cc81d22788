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
        kept = ", ".join(f"%{before} = %{after}" for before, after in graph.states)
        lines.append(f"  states {kept}")
    return "\n".join([*lines, "}", ""])


def op_text(op: Op, locs: bool = True) -> str:
    """One op as one line of the text form."""
    own = op_fields(type(op))
    operands = ", ".join(_operand(getattr(op, f.name)) for f in own if f.operand)
    attributes = ", ".join(
        f"{f.name} = {attribute(getattr(op, f.name), f.annotation)}" for f in own if not f.operand
    )
    names = ", ".join(f"%{n}" for n in op.names)
    types = ", ".join(str(v.type) for v in op.results)
    braces = f" {{{attributes}}}" if attributes else ""
    place = _loc(op.loc) if locs else ""
    return f"{names} = {op.mnemonic}({operands}){braces} : {types}{place}"


def attribute(held: Any, hint: Any) -> str:
    """An attribute as text, read back by the annotation `hint` of its field."""
    if held is None:
        return "none"
    if isinstance(held, tuple):
        return f"[{', '.join(attribute(h, hint) for h in held)}]"
    if isinstance(held, Enum):
        return str(held.value)
    if isinstance(held, str):
        return json.dumps(held)
    if isinstance(held, (bool, np.bool_)):
        return "true" if held else "false"
    if isinstance(held, numbers.Real) and float in (hint, *get_args(hint)):
        return repr(float(held))
    if isinstance(held, numbers.Integral):
        return str(int(held))
    return str(held)


def blobs(graph: Graph) -> dict[str, Data]:
    """Every array of the graph that its text names by hash."""
    found: dict[str, Data] = {}
    seen: set[int] = set()
    for value in graph.inputs:
        _collect(value.type, found, seen)
    for op in graph.ops:
        for f in op_fields(type(op)):
            if not f.operand:
                _collect(getattr(op, f.name), found, seen)
        for value in op.results:
            _collect(value.type, found, seen)
    return found


def _collect(held: Any, found: dict[str, Data], seen: set[int]) -> None:
    match held:
        case Data():
            if held.array.size > INLINE and id(held) not in seen:
                seen.add(id(held))
                found[held.digest] = held
        case Tensor():
            _collect(held.elem, found, seen)
        case Quant():
            _collect(held.scale, found, seen)
            _collect(held.zero_point, found, seen)
        case Dyadic():
            _collect(held.mult, found, seen)
            _collect(held.shift, found, seen)
        case tuple():
            for h in held:
                _collect(h, found, seen)


def _operand(held: Value | tuple[Value, ...] | None) -> str:
    if held is None:
        return "_"
    if isinstance(held, tuple):
        return f"[{', '.join(map(str, held))}]"
    return str(held)


def _loc(loc: Loc) -> str:
    if loc == Loc():
        return ""
    by = f" by {' '.join(loc.passes)}" if loc.passes else ""
    return f" loc({json.dumps(loc.source)}{by})"
