"""The rules that hold for every graph, as a readable list; all broken ones are reported at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np

from qir.ir.data import Data
from qir.ir.errors import QirError, VerifyError, listed
from qir.ir.fixed import Dyadic
from qir.ir.graph import STAGES, Graph
from qir.ir.names import is_name, is_word
from qir.ir.op import Op, op_fields
from qir.ir.stages import canonical_stage, integer_stage, simulated_stage
from qir.ir.types import MAX_ELEMENTS, Quant, Tensor

Rule = Callable[[Graph], Iterator[str]]


def verify(graph: Graph, form: bool = True) -> None:
    """Check every rule; VerifyError lists all faults of the first rule that is broken.

    form: hold a canonical graph to its form too. One that breaks it is slower or less exact, not
    wrong, and so may stand between passes.
    """
    for rule in (*RULES, *((canonical_stage,) if form else ())):
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
    values = {}
    for value in graph.inputs:
        if value.name in values:
            yield f"input {value}: defined twice, once is needed"
        values[value.name] = value
    for op in graph.ops:
        for value in op.operands:
            if values.get(value.name) != value:
                fault = (
                    "no definition"
                    if value.name not in values
                    else f"defined as {values[value.name].type}"
                )
                yield (
                    f"{op}: operand {value} of {value.type} has {fault}, its definition before it"
                    " is needed"
                )
        for name in op.names:
            if name in values:
                yield f"{op}: %{name} is defined twice, once is needed"
        try:
            values.update({v.name: v for v in op.results})
        except QirError as e:
            yield e.text
    if not graph.outputs or len(graph.outputs) != len(graph.output_names):
        yield (
            f"{len(graph.outputs)} outputs with {len(graph.output_names)} names, one or more, each"
            " named, are needed"
        )
    for value in graph.outputs:
        if values.get(value.name) != value:
            yield f"output {value} of {value.type} has no definition"


def names(graph: Graph) -> Iterator[str]:
    """The text form can write every name, shape and attribute, so that parse(text(graph)) == graph
    (docs/reference/text.md).
    """
    if not is_name(graph.name):
        yield f"graph name {graph.name!r}, {LETTERS} are needed"
    for value in graph.values:
        if not is_name(value.name):
            yield f"value name {value.name!r}, {LETTERS} are needed"
    for op in graph.ops:
        if bad := [name for name in op.loc.passes if not is_word(name)]:
            yield f"{op}: touched by pass {bad[0]!r}, a word is needed"


def states(graph: Graph) -> Iterator[str]:
    """A state is an input and an output of one type, and each is in one state only."""
    inputs, outputs = ({v.name: v for v in vs} for vs in (graph.inputs, graph.outputs))
    for kind, of, names in (
        ("input", inputs, [before for before, _ in graph.states]),
        ("output", outputs, [after for _, after in graph.states]),
    ):
        for name, count in Counter(names).items():
            if name not in of:
                yield f"state %{name}: no {kind} of the graph, one is needed"
            elif count > 1:
                yield f"state %{name}: {kind} of {count} states, one is needed"
    for before, after in graph.states:
        if before in inputs and after in outputs and inputs[before].type != outputs[after].type:
            types = f"{inputs[before].type} before, {outputs[after].type} after a call"
            yield f"state %{before}: {types}, one type is needed"


LETTERS = "letters, digits, '_', '.', '-' and '$', one or more,"


def attributes(graph: Graph) -> Iterator[str]:
    """Every attribute is of its field's type."""
    for op in graph.ops:
        yield from op.misfits


def types(graph: Graph) -> Iterator[str]:
    """Every shape is of sizes from 0, of at most 2**32 elements in all; every quantized type has
    positive finite scales, zero points within the storage, and an axis of the
    tensor.
    """
    checked: set[Tensor] = set()
    for value in graph.values:
        if value.type in checked:
            continue
        checked.add(value.type)
        if min(value.type.shape, default=0) < 0 or value.type.size > MAX_ELEMENTS:
            yield (
                f"{value}: shape {list(value.type.shape)}, sizes from 0 with a product of at most"
                " 2**32 are needed"
            )
        elif isinstance(value.type.elem, Quant):
            yield from (f"{value}: {fault}" for fault in quant_faults(value.type, value.type.elem))


def quant_faults(tensor: Tensor, q: Quant) -> Iterator[str]:
    """The faults of `q` as the element of `tensor`."""
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
    shape = (
        (size,)
        if q.block is None
        else (*tensor.shape[: q.axis], size // q.block, *tensor.shape[q.axis + 1 :])
    )
    if scale.shape != shape:
        yield f"scale of shape {scale.shape}, {shape} is needed"


def ops(graph: Graph) -> Iterator[str]:
    """Every op's own rules hold."""
    for op in graph.ops:
        yield from op.broken


def numbers(graph: Graph) -> Iterator[str]:
    """Every constant and attribute is finite: no NaN, no infinity (but a clip's ends)."""
    for op in graph.ops:
        for name in number_fields(type(op)):
            for one in flat(getattr(op, name)):
                if isinstance(one, Data) and not one.is_finite:
                    count = int(np.count_nonzero(~np.isfinite(one.array)))
                    yield (
                        f"{op}: {name} holds {count} NaN or infinite of {one.array.size}"
                        " elements, finite ones are needed"
                    )
                if isinstance(one, float) and np.isnan(one):
                    yield f"{op}: {name} is NaN, a number is needed"


def flat(value: object) -> Iterator[object]:
    """The numbers and arrays of an attribute."""
    match value:
        case tuple():
            yield from (inner for item in value for inner in flat(item))
        case Dyadic():
            yield from (value.mult, value.shift)
        case Quant():
            yield from (value.scale, value.zero_point)
        case _:
            yield value


_NUMBER_FIELDS: dict[type[Op], tuple[str, ...]] = {}


def number_fields(cls: type[Op]) -> tuple[str, ...]:
    """The attributes of an op class that can hold a NaN."""
    if cls not in _NUMBER_FIELDS:
        kinds = {Data, Dyadic, Quant, float}
        names = tuple(
            f.name
            for f in op_fields(cls)
            if not f.operand and kinds & {f.annotation, *get_args(f.annotation)}
        )
        _NUMBER_FIELDS[cls] = names
    return _NUMBER_FIELDS[cls]


RULES: tuple[Rule, ...] = (
    structure, states, names, types, attributes, ops, numbers, simulated_stage, integer_stage,
)  # fmt: skip
