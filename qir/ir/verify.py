"""The rules that hold for every graph, as a readable list; all broken ones are reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from qir.ir.data import Data
from qir.ir.errors import QirError, VerifyError, listed
from qir.ir.fixed import Dyadic
from qir.ir.graph import STAGES, Graph
from qir.ir.op import Op, op_fields
from qir.ir.types import Quant, Tensor

Rule = Callable[[Graph], Iterator[str]]


def verify(graph: Graph) -> None:
    """Check every rule; VerifyError lists all faults of the first rule that is broken."""
    for rule in RULES:
        if faults := list(rule(graph)):
            raise VerifyError(
                listed(
                    f"graph @{graph.name}: {len(faults)} faults in"
                    f" {rule.__name__.replace('_', ' ')}",
                    faults,
                )
            )


def structure(graph: Graph) -> Iterator[str]:
    """Each value is defined once and before its uses, with the type its users see; the stage is
    known.
    """
    if graph.stage not in STAGES:
        yield f"stage {graph.stage!r}, one of {', '.join(STAGES)} is needed"
    defined = {}
    for value in graph.inputs:
        if value.name in defined:
            yield f"input {value}: defined twice, once is needed"
        defined[value.name] = value
    for op in graph.ops:
        for value in op.operands:
            if defined.get(value.name) != value:
                found = (
                    "no definition"
                    if value.name not in defined
                    else f"defined as {defined[value.name].type}"
                )
                yield (
                    f"{op}: operand {value} of {value.type} has {found}, its definition before it"
                    " is needed"
                )
        for name in op.names:
            if name in defined:
                yield f"{op}: %{name} is defined twice, once is needed"
        try:
            defined.update({v.name: v for v in op.results})
        except QirError as e:
            yield e.text
    if not graph.outputs or len(graph.outputs) != len(graph.output_names):
        yield (
            f"{len(graph.outputs)} outputs with {len(graph.output_names)} names, one or more, each"
            " named, are needed"
        )
    for value in graph.outputs:
        if defined.get(value.name) != value:
            yield f"output {value} of {value.type} has no definition"


def types(graph: Graph) -> Iterator[str]:
    """Every quantized type has positive finite scales, zero points within the storage, and an axis
    of the tensor.
    """
    checked: set[Tensor] = set()
    for value in graph.values:
        if value.type in checked or not isinstance(value.type.elem, Quant):
            continue
        checked.add(value.type)
        yield from (f"{value}: {fault}" for fault in quant_faults(value.type, value.type.elem))


def quant_faults(tensor: Tensor, q: Quant) -> Iterator[str]:
    """What is wrong with `q` as the element of `tensor`."""
    scale, zero = q.scale.array, q.zero_point.array
    if scale.dtype != np.float64 or zero.dtype != np.int64 or scale.shape != zero.shape:
        yield (
            f"scale {scale.dtype}{scale.shape}, zero point {zero.dtype}{zero.shape}: float64 and"
            " int64 of one shape needed"
        )
        return
    if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
        yield f"scale reaches {scale.min()}, finite scales over 0 are needed"
    if zero.size and (zero.min() < q.storage.min or zero.max() > q.storage.max):
        yield f"zero point reaches [{zero.min()}, {zero.max()}], within {q.storage} is needed"
    if q.axis is None:
        if scale.ndim or q.block is not None:
            yield f"scale of shape {scale.shape} without an axis, one scale is needed"
        return
    if not 0 <= q.axis < tensor.rank:
        yield f"axis {q.axis} of rank {tensor.rank}, an axis of the tensor is needed"
        return
    size = tensor.shape[q.axis]
    if q.block is not None and (q.block < 1 or size % q.block):
        yield f"block {q.block} of {size}, a divisor is needed"
        return
    want = (
        (size,)
        if q.block is None
        else (*tensor.shape[: q.axis], size // q.block, *tensor.shape[q.axis + 1 :])
    )
    if scale.shape != want:
        yield f"scale of shape {scale.shape}, {want} is needed"


def ops(graph: Graph) -> Iterator[str]:
    """Every op's own rules hold."""
    for op in graph.ops:
        yield from op.broken


def numbers(graph: Graph) -> Iterator[str]:
    """Every constant and attribute is finite: no NaN, no infinity (but a clip's ends)."""
    for op in graph.ops:
        for name in number_fields(type(op)):
            held = getattr(op, name)
            arrays = (held.mult, held.shift) if isinstance(held, Dyadic) else (held,)
            for data in arrays:
                if isinstance(data, Data) and not data.is_finite:
                    wrong = int(np.count_nonzero(~np.isfinite(data.array)))
                    yield (
                        f"{op}: {name} holds {wrong} NaN or infinite of {data.array.size}"
                        " elements, finite ones are needed"
                    )
            if isinstance(held, float) and np.isnan(held):
                yield f"{op}: {name} is NaN, a number is needed"


_NUMBER_FIELDS: dict[type[Op], tuple[str, ...]] = {}


def number_fields(cls: type[Op]) -> tuple[str, ...]:
    """The attributes of an op class that can hold a NaN."""
    if cls not in _NUMBER_FIELDS:
        kinds = (Data, Dyadic, float)
        own = tuple(f.name for f in op_fields(cls) if not f.operand and f.annotation in kinds)
        _NUMBER_FIELDS[cls] = own
    return _NUMBER_FIELDS[cls]


def integer_only(graph: Graph) -> Iterator[str]:
    """At the integer stage no op works on floats, and no value or constant is one: the integer-only
    proof.
    """
    if graph.stage != "integer":
        return
    for value in graph.inputs:
        if value.type.is_float:
            yield f"input {value}: {value.type}, a quantized or integer tensor is needed"
    for op in graph.ops:
        if not op.has_integers():
            yield f"{op}: an op on floats, integer ops are needed"
        for value in op.results:
            if value.type.is_float:
                yield f"{op}: result {value.type}, a quantized or integer tensor is needed"


RULES: tuple[Rule, ...] = (structure, types, ops, numbers, integer_only)
