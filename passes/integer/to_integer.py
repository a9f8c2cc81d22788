"""Lower a simulated graph to ops on stored integers, proven integer-only and free of overflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.errors import LowerError, QirError, listed
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ranges import prove_no_overflow
from qir.ir.types import Quant, Tensor
from qir.ir.verify import verify
from qir.passes.infra.manager import Claim, Pass, Record, changes, register
from qir.passes.integer import Lowering, NoInteger
from qir.passes.integer.forms import Form, Stored
from qir.passes.integer.inputs import input_quant
from qir.passes.integer.rules import Needs, ask, lower, operand_of


@register
@dataclass(frozen=True)
class ToInteger(Pass):
    """quantize(f(dequantize(x), ...)) -> integer ops on x; inputs and outputs become quantized.

    Each quantize is one rounding, of dyadic products where the simulation rounds reals: half up,
    but ties of real numbers as the quantize says, except those of a contraction.
    Changes: a result differs from the simulated one by a step where the two roundings differ.
    Errors: LowerError that lists every op without an integer form, and why.
    """

    name: ClassVar[str] = "to-integer"
    claim: ClassVar[Claim] = changes("a step where a dyadic rounding differs from a real one")
    stages: ClassVar[tuple[str, ...]] = ("simulated",)
    leaves: ClassVar[str] = "integer"

    def run(self, graph: Graph, record: Record) -> Graph:
        builder = Builder(graph.name, "integer")
        at = Lowering(builder, {v.name for v in graph.values})
        faults = enter(graph, at)
        for op in graph.ops:
            if any(v.name not in at.forms for v in op.operands):
                continue  # it reads the result of an op that has been reported
            try:
                at.forms[op.names[0]] = lowered(op, at)
                record.rewrites += 1
            except QirError as e:
                faults.append(f"{op}: {e.text}")
        outputs = leave(graph, at, faults)
        if faults:
            raise LowerError(
                listed(
                    f"graph @{graph.name}: no integer form for {len(faults)} of its values", faults
                ),
                hint="quantize-graph stores what these ops read, and lists those without any form",
            )
        new = builder.finish(outputs, graph.output_names).with_states_of(graph)
        new = new.without_dead_code()
        verify(new)
        prove_no_overflow(new)
        return new


def lowered(op: Op, at: Lowering) -> Form:
    """How the op's result exists as integers.

    Errors: NoInteger for an op without an integer form, or with an operand that is not stored.
    """
    operands = [operand_of(v, at) for v in op.operands]
    answer = ask(op, operands)
    if isinstance(answer, Needs):
        operand = operands[answer.places[0]]
        raise NoInteger(
            f"operand {operand.value} is {operand.kind.value}, a quantized value is needed"
        )
    return lower(op, at, answer)


def enter(graph: Graph, at: Lowering) -> list[str]:
    """The inputs as stored integers; a fault for each that has no quantization."""
    faults = []
    for value in graph.inputs:
        if not value.type.is_float:
            at.forms[value.name] = Stored(at.builder.input(value.name, value.type))
            continue
        try:
            tensor = Tensor(value.type.shape, input_quant(graph, value))
        except NoInteger as e:
            faults.append(f"input {value}: {e.text}")
            continue
        at.forms[value.name] = Stored(at.builder.input(value.name, tensor))
        at.stored_names.add(value.name)
    return faults


def leave(graph: Graph, at: Lowering, faults: list[str]) -> list[Value]:
    """The stored value of each output."""
    outputs = []
    for value in graph.outputs:
        form = at.forms.get(value.name)
        if isinstance(form, Stored) and isinstance(form.value.type.elem, Quant):
            outputs.append(form.value)
        elif form is not None:
            faults.append(f"output {value}: not quantized")
    return outputs
