"""The same graph for another batch size, if samples are independent in it."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    BatchNorm,
    Concat,
    Expand,
    Gather,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Pad,
    PRelu,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    SoftmaxFixed,
    Transpose,
)  # fmt: skip
from qir.ir.ops.kinds import Elementwise
from qir.ir.ops.reduce import Reduce
from qir.ir.types import Quant
from qir.passes.infra.manager import Miss


def rebatch(graph: Graph, factor: int) -> Graph | Miss:
    """The graph on `factor` times the batch, the first axis of every input; a Miss names the op
    that does not treat samples one by one.

    Keeps: every bit of each sample's outputs.
    """
    sizes = {v.type.shape[0] if v.type.rank else 0 for v in graph.inputs}
    if len(sizes) != 1 or sizes == {0}:
        return Miss(f"inputs start with sizes {sorted(sizes)}, one batch size is needed")
    batch = sizes.pop()
    for v in graph.inputs:
        if why := _own_scales(v):
            return Miss(why, v.name)
    builder = Builder(graph.name, graph.stage)
    now: dict[str, Value] = {}
    batched: set[str] = set()
    for v in graph.inputs:
        shape = (batch * factor, *v.type.shape[1:])
        now[v.name] = builder.input(v.name, v.type.with_shape(shape))
        batched.add(v.name)
    for op in graph.ops:
        fixed = replace(op.rebind(lambda v: now[v.name]), names=op.names)
        if any(v.name in batched for v in op.operands):
            if why := _mixes(op, batch) or _operands_mix(op, batched):
                return Miss(why, op.names[0])
            fixed = _resized(fixed, batch * factor)
            batched.update(op.names)
        try:
            results = builder.add_all(fixed)
        except VerifyError as e:
            return Miss(e.text, op.names[0])
        for old, new in zip(op.results, results, strict=True):
            lead = batch * factor if old.name in batched else old.type.shape[:1]
            want = (lead, *old.type.shape[1:]) if old.name in batched else old.type.shape
            if new.type.shape != want:
                return Miss(f"{new.type} comes of it, {list(want)} is needed", op.names[0])
            now[old.name] = new
    if not all(v.name in batched for v in graph.outputs):
        return Miss("an output does not depend on the inputs")
    return builder.finish([now[v.name] for v in graph.outputs], graph.output_names)


def _operands_mix(op: Op, batched: set[str]) -> str | None:
    """Why the operands beside the samples prevent it: a constant that has an element for each of
    them, or a value of the samples that broadcasts, or that all of them read.
    """
    if isinstance(op, Reshape | Transpose | Slice | Pad | Gather | Reduce):
        return None
    rank, x = op.results[0].type.rank, op.operands[0]
    if isinstance(op, Concat) and any(v.name not in batched for v in op.xs):
        return "a constant is repeated for each sample"
    if not isinstance(op, Elementwise | Requantize | Concat | MatMul):  # one x, and parameters
        if x.name not in batched:
            return "the first operand is a constant"
        if any(v.name in batched for v in op.operands[1:]):
            return f"{op.mnemonic} has parameters that depend on the samples"
    for v in op.operands:
        if v.name in batched and v.type.rank != rank:
            return f"{v} of rank {v.type.rank} meets others of rank {rank}: its samples broadcast"
    if isinstance(op, Elementwise | Requantize):
        for v in op.operands:
            if v.name not in batched and v.type.rank == rank and v.type.shape[0] != 1:
                return f"constant {v} has an element for each sample"
    return None


def _own_scales(value: Value) -> str | None:
    """Why the quantization of a value is one for this batch size alone."""
    elem = value.type.elem
    if isinstance(elem, Quant) and (elem.axis == 0 or elem.block is not None):
        return f"{value} has scales for each sample"
    return None


@singledispatch
def _mixes(op: Op, batch: int) -> str | None:
    """Why the op does not treat the samples of the first axis one by one, or None."""
    for v in op.results:
        if v.type.rank == 0 or v.type.shape[0] != batch:
            return f"result {v.type} does not start with the batch size {batch}"
        if why := _own_scales(v):
            return why
    return None


@_mixes.register
def _(op: Reshape, batch: int) -> str | None:
    # One sample's elements stay together and in order, whatever the other axes become.
    same = op.x.type.shape[:1] == op.shape[:1] == (batch,)
    return None if same else "reshape moves the batch axis"


@_mixes.register
def _(op: Transpose, batch: int) -> str | None:
    return None if op.perm[:1] == (0,) else "transpose moves the batch axis"


@_mixes.register
def _(op: Slice, batch: int) -> str | None:
    whole = (op.start[0], op.stop[0], op.step[0]) == (0, batch, 1)
    return None if whole else "slice cuts the batch axis"


@_mixes.register
def _(op: Pad, batch: int) -> str | None:
    still = not (op.before[0] or op.after[0] or op.between[0])
    return None if still else "pad reaches the batch axis"


@_mixes.register(Concat)
@_mixes.register(Gather)
def _(op: Concat | Gather, batch: int) -> str | None:
    return None if op.axis > 0 else f"{op.mnemonic} works along the batch axis"


@_mixes.register
def _(op: Reduce, batch: int) -> str | None:
    return None if 0 not in op.axes else f"{op.mnemonic} goes over the batch axis"


@_mixes.register(Softmax)
@_mixes.register(SoftmaxFixed)
@_mixes.register(LayerNorm)
@_mixes.register(BatchNorm)
@_mixes.register(PRelu)
@_mixes.register(Lookup)
@_mixes.register(Linear)
def _(op: Op, batch: int) -> str | None:
    return None if op.operands[0].type.rank > 1 else f"{op.mnemonic} works along the batch axis"


@_mixes.register
def _(op: MatMul, batch: int) -> str | None:
    lead, a, b = op.result.type.shape[0], op.a.type, op.b.type
    if a.rank == b.rank == 2:
        return None  # rows are samples; a b of samples changes the result's columns
    if a.rank == 2 or lead != batch:
        return "matmul does not start with the batch"
    return None


def _resized(op: Op, lead: int) -> Op:
    """The op with its own mention of the batch size changed."""
    match op:
        case Reshape() | Expand():
            return replace(op, shape=(lead, *op.shape[1:]))
        case Slice():
            return replace(op, stop=(lead, *op.stop[1:]))
        case _:
            return op
