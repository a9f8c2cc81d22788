"""How far each integer value is from the float one it stands for: signal to quantization noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qir.ir.graph import Graph
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.op import Op, Value
from qir.ir.ops import Constant
from qir.ir.ops.quantize import dequantized
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array, Quant
from qir.passes.calibrate.ranges import chunk_of, chunks, rows_of, run_of
from qir.passes.infra.manager import Miss, restored
from qir.passes.infra.rebatch import rebatch

Pairs = Callable[[Array, Array], None]
"""Takes the reals of the float graph and those of the integer graph."""
ONE = np.ones(())
MOST_SAMPLES = 64


@dataclass(frozen=True)
class Sqnr:
    """10 * log10(sum(float**2) / sum((float - integer)**2)) of one value, in dB.

    Infinite where nothing differs; minus infinite where the float value is 0 and the other is not.
    """

    op: Op
    decibels: float
    elements: int


def measure_sqnr(
    reference: Graph,
    integer: Graph,
    inputs: Iterable[Any],
    most: int = MOST_SAMPLES,
    divided: Mapping[str, Array] | None = None,
    watch: Pairs | None = None,
) -> list[Sqnr]:
    """The ratio for each op of the integer graph whose result has the name and shape of a value of
    the float graph, or is the same output, worst first, over at most `most` samples of `inputs`
    (as calibration takes). Channels that a pass divided, (C,) by value, are multiplied again, and
    those that it mixed by the matrix that gives them back. `watch` sees both of every output.
    """
    pairs = matched(reference, integer)
    power: dict[str, Array] = {name: np.zeros(2) for name in pairs}
    counts = dict.fromkeys(pairs, 0)
    run_rows = rows_of(reference.inputs[0])
    size = max(run_rows, min(chunk_of(reference) // 4, most) // run_rows * run_rows)
    count = 0
    for chunk in chunks(reference, inputs, size):
        for part in batched(reference, integer, chunk):
            add_powers(*part, pairs, power, counts, divided or {}, watch)
        count += len(chunk[0])
        if count >= most:
            break
    ratios = [Sqnr(pairs[name], decibels(*power[name]), counts[name]) for name in pairs]
    return sorted(ratios, key=lambda s: s.decibels)


def matched(reference: Graph, integer: Graph) -> Mapping[str, Op]:
    """The integer ops whose results stand for reals of the float graph, by the names of these: the
    outputs by their places, other values by their names.
    """
    shapes = {v.name: v.type.shape for v in reference.values if v.type.is_float}
    ends = zip(reference.outputs, integer.outputs, strict=True)
    outputs = {stored.name: real.name for real, stored in ends}
    pairs: dict[str, Op] = {}
    for op in integer.ops:
        own_name = op.names[0]
        name = outputs.get(own_name, own_name)
        is_taken = own_name not in outputs and name in outputs.values()
        is_real = not isinstance(op, Constant) and isinstance(op.results[0].type.elem, Quant)
        if is_real and not is_taken and shapes.get(name) == op.results[0].type.shape:
            pairs[name] = op
    return pairs


def batched(
    reference: Graph, integer: Graph, chunk: tuple[Array, ...]
) -> Iterable[tuple[Graph, Graph, tuple[Array, ...]]]:
    """Both graphs and their inputs, rebatched for the chunk if possible."""
    factor = len(chunk[0]) // rows_of(reference.inputs[0])
    larger = [rebatch(g, factor) for g in (reference, integer)] if factor > 1 else [Miss("one")]
    if not isinstance(larger[0], Miss) and not isinstance(larger[1], Miss):
        yield larger[0], larger[1], chunk
        return
    for i in range(factor):
        yield reference, integer, run_of(reference, chunk, i)


def add_powers(
    reference: Graph,
    integer: Graph,
    inputs: tuple[Array, ...],
    pairs: Mapping[str, Op],
    power: dict[str, Array],
    counts: dict[str, int],
    divided: Mapping[str, Array],
    watch: Pairs | None = None,
) -> None:
    """Run both and add the signal's and the noise's sums of squares."""
    import torch

    reals: dict[str, Array] = {}
    names = {op.names[0]: name for name, op in pairs.items()}
    ends = {v.name for v in integer.outputs}

    def add(value: Value, x: Any) -> None:
        if value.name in pairs:
            reals[value.name] = x.numpy()

    def compare(value: Value, x: Array) -> None:
        name = names.get(value.name)
        if name is not None and isinstance(value.type.elem, Quant):
            wide = reals.pop(name).astype(np.float64)
            actual = restored(dequantized(x, value.type.elem), divided.get(value.name, ONE))
            noise = wide - actual
            if watch is not None and value.name in ends:
                watch(wide, actual)
            power[name] += float((wide**2).sum()), float((noise**2).sum())
            counts[name] += x.size

    with torch.no_grad():
        FloatProgram(reference)(*inputs, watch=add)
    interpret(integer, quantize_inputs(integer, inputs), watch=compare)


def decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal > 0 else float("-inf")
