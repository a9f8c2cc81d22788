"""The same graph for another batch size, if samples are independent in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Embed, Requantize, Take
from qir.ir.ops.kinds import Elementwise
from qir.ir.ops.sequence.attention import Heads
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
        if fault := v.batch_fault():
            return Miss(fault, v.name)
    builder = Builder(graph.name, graph.stage)
    values: dict[str, Value] = {}
    batched: set[str] = set()
    for v in graph.inputs:
        shape = (batch * factor, *v.type.shape[1:])
        values[v.name] = builder.input(v.name, v.type.with_shape(shape))
        batched.add(v.name)
    for op in graph.ops:
        fixed = replace(op.rebind(lambda v: values[v.name]), names=op.names)
        if any(v.name in batched for v in op.operands):
            if fault := op.batch_fault(batch) or _operands_fault(op, batched):
                return Miss(fault, op.names[0])
            fixed = fixed.with_batch(batch * factor)
            batched.update(op.names)
        try:
            results = builder.add_all(fixed)
        except VerifyError as e:
            return Miss(e.text, op.names[0])
        for old, new in zip(op.results, results, strict=True):
            first_axis = batch * factor if old.name in batched else old.type.shape[:1]
            expected = (first_axis, *old.type.shape[1:]) if old.name in batched else old.type.shape
            if new.type.shape != expected:
                return Miss(f"{new.type} comes of it, {list(expected)} is needed", op.names[0])
            values[old.name] = new
    if not all(v.name in batched for v in graph.outputs):
        return Miss("an output does not depend on the inputs")
    return builder.finish([values[v.name] for v in graph.outputs], graph.output_names)


def _attention_fault(op: Heads, batched: Collection[str]) -> str | None:
    """Queries, keys, values and what of the rest has a batch axis are of the samples, or of none;
    where all samples begin says no sample.
    """
    for v in op.operands:
        is_of_samples = v.name in batched
        if is_of_samples and not v.type.rank:
            return f"{v} is one number for all samples"
        if not is_of_samples and v.type.rank and v.type.shape[0] != 1:
            return f"{v} has an element for each sample"
        if not is_of_samples and v.type.rank == 3:
            return f"{v} is not of the samples"
    return None


def _operands_fault(op: Op, batched: Collection[str]) -> str | None:
    """Why the operands beside the samples prevent it: a constant that has an element for each of
    them, or a value of the samples that broadcasts, or that all of them read.
    """
    if len(op.operands) == 1:
        return None
    if isinstance(op, (Take, Embed)):
        is_batched = op.table.name in batched
        return f"{op.mnemonic} takes rows of the samples" if is_batched else None
    if isinstance(op, Heads):
        return _attention_fault(op, batched)
    rank = op.results[0].type.rank
    if op.has_parameters:
        if op.operands[0].name not in batched:
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
