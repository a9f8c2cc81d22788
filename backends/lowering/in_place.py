"""Results written over an operand: which values may take each other's place, and which kernels
allow it.

A kernel that adds a residual to a contraction loads each element of it once, and stores the element
of the result at the same place after that, from what was loaded. So the two may be the same memory,
although kernels are told that their pointers never meet: what compilers do with that promise is
move accesses to the same place past each other, and here the store needs the load. It is not so
where a tile moved back to fit and computes elements a second time.

New rows are written into a state where it lies, if nothing reads its old content after that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.plain import PlainCode
from qir.backends.kernels.kernel import Code
from qir.backends.lowering.fuse import Fusion
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Reshape, Slice, Transpose, WriteRows
from qir.ir.ops.shape import Move

VIEWS = (Reshape, Slice, Transpose)
"""Ops whose result may be the same memory as their operand."""


def writes_once(code: Code) -> bool:
    """No element of the result is computed twice."""
    if isinstance(code, PlainCode):
        return True
    if not isinstance(code, DenseCode):
        return False
    tile, y = code.tile, code.y
    panel = tile.vectors * code.machine.lanes
    return (
        y.width % tile.pixels == 0
        and y.height % tile.rows == 0
        and (code.group_panels == 1 or y.channels // code.groups % panel == 0)
    )


def overwritten(
    at: int,
    fusions: Sequence[Fusion],
    makers: Mapping[str, Op],
    readers: Mapping[str, Sequence[Op]],
    fixed: Collection[str],
) -> Value | None:
    """The residual that fusion `at` may write its result over: nobody else sees its memory after.

    `fixed`: values whose place something else decides.
    """
    fusion = fusions[at]
    old, new = fusion.residual, fusion.result
    if old is None or old in fusion.anchor.operands or {old.name, new.name} & set(fixed):
        return None
    maker = makers.get(old.name)
    if maker is None or isinstance(maker, Move):  # operands and result of one may share memory
        return None
    if any(isinstance(op, Move) for op in readers[old.name]):
        return None
    if any(old in later.operands for later in fusions[at + 1 :]):
        return None
    same_type = old.type.elem.carrier == new.type.elem.carrier
    return old if same_type and old.type.shape == new.type.shape else None


def written_in_place(graph: Graph, fusions: Sequence[Fusion]) -> Mapping[str, Value]:
    """The results of write_rows that lie where the state is that they are the next content of."""
    caches = {}
    states = dict(graph.states)
    for at, fusion in enumerate(fusions):
        op = fusion.anchor
        if isinstance(op, WriteRows) and states.get(op.cache.name) == op.names[0]:
            aliases = _views(op.cache, fusions)
            after = {v.name for later in fusions[at + 1 :] for v in later.operands}
            after.update(v.name for v in (op.x, op.start, *graph.outputs))
            if not aliases & after:
                caches[op.names[0]] = op.cache
    return caches


def _views(value: Value, fusions: Sequence[Fusion]) -> set[str]:
    """The values that may be the same memory as `value`, by name."""
    names = {value.name}
    for fusion in fusions:
        if isinstance(fusion.anchor, VIEWS) and fusion.anchor.operands[0].name in names:
            names.add(fusion.result.name)
    return names
