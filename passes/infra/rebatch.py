"""The same graph for another batch size, where each sample goes its own way."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Concat,
    Dequantize,
    Expand,
    Gather,
    Linear,
    MatMul,
    Pad,
    Quantize,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    SoftmaxFixed,
    Transpose,
)  # fmt: skip
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
            if why := _mixes(op, batch) or _constants_reach(op, batched):
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


def _constants_reach(op: Op, batched: set[str]) -> str | None:
    """Why a constant operand prevents it: it has an element for each sample."""
    if isinstance(op, (Linear, MatMul)) or op.mnemonic == "conv":
        return None if op.operands[0].name in batched else "the first operand is a constant"
    rank = op.results[0].type.rank
    for v in op.operands:
        if v.name not in batched and v.type.rank == rank and v.type.shape[0] != 1:
            return f"constant {v} has an element for each sample"
        if isinstance(op, Concat) and v.name not in batched:
            return f"constant {v} is repeated for each sample"
    return None


@singledispatch
def _mixes(op: Op, batch: int) -> str | None:
    """Why the op does not treat the samples of the first axis one by one, or None."""
    for v in op.results:
        if v.type.rank == 0 or v.type.shape[0] != batch:
            return f"result {v.type} does not start with the batch size {batch}"
    if isinstance(op, (Quantize, Dequantize, Requantize)):
        elem = op.results[0].type.elem
        if isinstance(elem, Quant) and elem.axis == 0:
            return "one scale for each sample"
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


@_mixes.register(ReduceMax)
@_mixes.register(ReduceMean)
@_mixes.register(ReduceSum)
def _(op: ReduceMax | ReduceMean | ReduceSum, batch: int) -> str | None:
    return None if 0 not in op.axes else f"{op.mnemonic} goes over the batch axis"


@_mixes.register(Softmax)
@_mixes.register(SoftmaxFixed)
@_mixes.register(Linear)
def _(op: Softmax | SoftmaxFixed | Linear, batch: int) -> str | None:
    return None if op.x.type.rank > 1 else f"{op.mnemonic} works along the batch axis"


@_mixes.register
def _(op: MatMul, batch: int) -> str | None:
    if op.a.type.rank == 2 or op.a.type.rank > op.b.type.rank:
        return None  # rows are samples; a batched b of rank 2 shows in the shapes that come of it
    return None if op.result.type.shape[0] == batch else "matmul does not start with the batch"


def _resized(op: Op, lead: int) -> Op:
    """The op with its own mention of the batch size changed."""
    match op:
        case Reshape() | Expand():
            return replace(op, shape=(lead, *op.shape[1:]))
        case Slice():
            return replace(op, stop=(lead, *op.stop[1:]))
        case _:
            return op
