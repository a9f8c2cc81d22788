"""One layer at a time as it is stored in some bits: its errors, and what they do to the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from qir.ir.fixed import Rounding
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Dequantize, Quantize
from qir.ir.ops.kinds import Layer
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array, Quant
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import Ranges
from qir.passes.infra.layers import bias_of
from qir.passes.infra.tasks import Result
from qir.passes.quantize.place_rows import with_rows
from qir.passes.quantize.placement import plan_quantization
from qir.passes.quantize.scales import choose_quants
from qir.passes.quantize.weights import quantize_weights
from qir.passes.quantize.widths import Widths
from qir.passes.sensitivity.probe import float_weights, for_samples, layers_to_quantize
from qir.passes.sensitivity.subject import Part, Runner, Subject

BLOCK = 8  # layers of one task, which share one run of the float network


@dataclass(frozen=True)
class StoredLayer:
    """A layer in some bits: the reals of its stored weights, and its input's quantization (None
    where the model itself gives that one already).
    """

    weights: Array
    input: Quant | None


@dataclass(frozen=True)
class Errors:
    """The errors of storing one layer in some bits, means over samples.

        weights  ||Q(W) - W||^2                      inputs   ||Q(x) - x||^2
        signal   ||layer(x, W)||^2                   noise    ||layer(Q(x), Q(W)) - layer(x, W)||^2
        loss     of the outputs with all other layers as floats, less that of the float network

    Source: the loss is the input of AdaQuant's integer program, arXiv:2006.10518, section 3.3.
    """

    weights: float
    power: float  # ||W||^2
    inputs: float
    signal: float
    noise: float
    loss: float


def stored_layers(
    graph: Graph, ranges: Ranges, candidates: Sequence[Bits]
) -> dict[str, dict[Bits, StoredLayer]]:
    """Each layer in each of the candidates, as QuantizeGraph would store it; inputs that have a
    scale for each row stay as they are.

    Errors: DataError for ranges of another graph, PassError for bits that no storage has.
    """
    plan, layers = plan_quantization(with_rows(graph)), layers_to_quantize(graph)
    names = [name for group in plan.members() for name in group]
    inputs = {
        a: {} if plan.is_wide else choose_quants(plan, ranges, Widths(dict.fromkeys(names, a)))
        for a in {bits.activation for bits in candidates}
    }
    return {
        name: {bits: _stored(graph, op, bits, inputs[bits.activation].get(op.x.name))
               for bits in candidates}
        for name, op in layers.items()
    }  # fmt: skip


def _stored(graph: Graph, layer: Layer, bits: Bits, quant: Quant | None) -> StoredLayer:
    scale, reach = (1.0, 255) if quant is None else (
        float(quant.scale.array), 2**quant.storage.bits - 1)  # fmt: skip
    quantized = quantize_weights(
        float_weights(graph, layer), bits.weight, True, False, bias_of(graph, layer), scale,
        bits.group, reach, bits.floating,
    )  # fmt: skip
    return StoredLayer(quantized.reals.astype(np.float32), quant)


def layer_errors(
    subject: Subject,
    stored: Mapping[str, Mapping[Bits, StoredLayer]],
    runner: Runner | None = None,
) -> dict[str, dict[Bits, Errors]]:
    """The errors of each layer in each of its bits, one layer at a time."""
    parts, names = subject.parts(), list(stored)
    blocks = [{n: stored[n] for n in names[i : i + BLOCK]} for i in range(0, len(names), BLOCK)]
    descriptions = [
        ", ".join(f"{n} {' '.join(map(str, block[n]))}" for n in block) for block in blocks
    ]
    results = (runner or Runner()).run(
        "one layer at a time", subject, errors_of,
        [(f"{text} part {i} of {len(parts)}", (part, block))
         for text, block in zip(descriptions, blocks, strict=True) for i, part in enumerate(parts)],
    )  # fmt: skip
    totals: dict[str, Array] = {}
    for at, result in enumerate(results):
        share = parts[at % len(parts)].share
        for name, rows in result.items():
            totals[name] = totals.get(name, 0.0) + share * rows
    return {
        name: {bits: _errors(subject.graph, name, one, row)
               for (bits, one), row in zip(stored[name].items(), totals[name], strict=True)}
        for name in names
    }  # fmt: skip


def _errors(graph: Graph, name: str, stored: StoredLayer, row: Array) -> Errors:
    w = float_weights(graph, layers_to_quantize(graph)[name]).astype(np.float64)
    return Errors(float(((stored.weights - w) ** 2).sum()), float((w**2).sum()),
                  *(float(x) for x in row))  # fmt: skip


def errors_of(part: Part, block: Mapping[str, Mapping[Bits, StoredLayer]]) -> Result:
    """The task: for each layer of the block (bits, 4): ||error of x||^2, signal, noise, loss."""
    graph = for_samples(part.graph, len(part.at))
    layers = layers_to_quantize(graph)
    values: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        FloatProgram(graph)(*part.arrays, watch=lambda v, x: values.__setitem__(v.name, x))
        return {name: _rows(graph, layers[name], one, values, part) for name, one in block.items()}


def _rows(
    graph: Graph,
    layer: Layer,
    by_bits: Mapping[Bits, StoredLayer],
    values: Mapping[str, torch.Tensor],
    part: Part,
) -> Array:
    x, y = values[layer.x.name], values[layer.result.name]
    bias = None if layer.bias is None else values[layer.bias.name]
    reference = [values[v.name] for v in graph.outputs]
    base = float(part.loss(reference, reference, part.at))
    rest, operands = after(graph, layer)
    program, rows = FloatProgram(rest), []
    for stored in by_bits.values():
        x_stored = x if stored.input is None else through(x, layer.x, stored.input)
        other = layer.compute(torch, x_stored, torch.from_numpy(stored.weights), bias).contiguous()
        inputs = [other if v == layer.result else values[v.name] for v in operands]
        loss = float(part.loss(program(*inputs), reference, part.at)) - base
        sums = [_power(z) / len(part.at) for z in (x_stored - x, y, other - y)]
        rows.append([*sums, loss])
    return np.array(rows)


def _power(x: torch.Tensor) -> float:
    return float(x.double().square().sum())


def through(x: torch.Tensor, value: Value, quant: Quant) -> torch.Tensor:
    """dequantize(quantize(x))"""
    pair = Quantize(value, quant, Rounding.HALF_EVEN, names=("q",))
    reals: torch.Tensor = Dequantize(pair.result).compute(torch, pair.compute(torch, x))
    return reals


def after(graph: Graph, layer: Layer) -> tuple[Graph, list[Value]]:
    """The part of a graph that depends on a layer's result, and the values it needs: its inputs."""
    reached, ops, operands = {layer.result.name}, list[Op](), {layer.result.name: layer.result}
    for op in graph.ops:
        if any(v.name in reached for v in op.operands):
            ops.append(op)
            reached.update(op.names)
    for v in (*(v for op in ops for v in op.operands), *graph.outputs):
        if v.name not in reached and not isinstance(graph.producers.get(v.name), Constant):
            operands[v.name] = v
    reads = {v.name for v in (*(v for op in ops for v in op.operands), *graph.outputs)}
    constants = [op for op in graph.ops if isinstance(op, Constant) and reads & set(op.names)]
    inputs = tuple(operands.values())
    return replace(graph, inputs=inputs, ops=(*constants, *ops)), list(inputs)
