"""Whether two graphs are one but for names, and for the order in which constants stand."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from qir.ir.graph import Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant


def assert_same_graph(a: Graph, b: Graph) -> None:
    """The same ops in the same order, with the same constants, bit for bit."""
    for one, other in zip(_steps(a), _steps(b), strict=True):
        assert one == other


def _steps(graph: Graph) -> list[tuple[Any, ...]]:
    """Each op but constants: itself with its operands numbered, and the constants it reads."""
    number: dict[str, int] = {v.name: i for i, v in enumerate(graph.inputs)}
    steps = []
    for op in graph.ops:
        if isinstance(op, Constant):
            continue
        read = [_bits(graph.producers.get(v.name)) for v in op.operands]
        plain = op.rebind(lambda v: Value(str(number.get(v.name, "constant")), v.type))
        number.update((n, len(number)) for n in op.names)
        same = replace(plain, names=tuple(str(number[n]) for n in op.names), loc=Loc())
        steps.append((type(op), *(getattr(same, f.name) for f in fields(same)), read))
    return [*steps, tuple(number[v.name] for v in graph.outputs)]


def _bits(op: Op | None) -> tuple[str, bytes] | None:
    return (str(op.elem), op.value.array.tobytes()) if isinstance(op, Constant) else None
