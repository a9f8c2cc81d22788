"""Parts of a graph run in torch: cut by cut for all samples, and with weights in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch

from qir.ir.graph import Graph
from qir.ir.op import Op
from qir.ir.ops import Dequantize, Quantize
from qir.ir.ops.quantize import spread_torch
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array, Quant, integer_of
from qir.passes.calibrate.ranges import remade
from qir.passes.rounding.blocks import extract, stored

Programs = dict[int, FloatProgram | None]
CutValues = Mapping[str, Array]
"""Values at a cut, by name: (samples, *shape of the value), integers as they are stored."""


@dataclass(frozen=True)
class Stretch:
    """A part of a graph, from the values of one cut to those that are asked for, and those of the
    next cut; names that are in both cuts are not computed.
    """

    graph: Graph
    cut: tuple[str, ...]

    def run(self, cut_values: CutValues, programs: Programs) -> Mapping[str, Any]:
        """Everything computed, as tensors (samples * rows, ...), at once where that can be."""
        inputs = [torch.from_numpy(cut_values[v.name]) for v in self.graph.inputs]
        if not self.graph.outputs:
            return {}
        count = len(inputs[0])
        with torch.no_grad():
            if (batched := remade(self.graph, count, programs)) is not None:
                outputs = batched(*[x.flatten(0, 1) if x.dim() > 1 else x for x in inputs])
            else:
                one = remade(self.graph, 1, programs)
                assert one is not None
                each = [one(*[x[i] for x in inputs]) for i in range(count)]
                outputs = tuple(torch.cat(ys) for ys in zip(*each, strict=True))
        return {v.name: y for v, y in zip(self.graph.outputs, outputs, strict=True)}

    def next_cut(self, cut_values: CutValues, tensors: Mapping[str, Any]) -> CutValues:
        """The values at the next cut."""
        count = len(next(iter(cut_values.values())))
        kinds = {v.name: integer_of(v.type.elem) for v in self.graph.outputs}
        values = {}
        for name in self.cut:
            if name in cut_values:
                values[name] = cut_values[name]
                continue
            y = tensors[name].numpy()
            kind = kinds[name]
            y = y if kind is None else y.astype(kind.carrier)
            values[name] = y.reshape(count, -1, *y.shape[1:])
        return values


def stretch(
    graph: Graph, sources: Iterable[str], outputs: Iterable[str], cut: Sequence[str]
) -> Stretch:
    """From the known values to `outputs` and the next cut."""
    known_names = set(sources)
    ends = dict.fromkeys([*outputs, *(name for name in cut if name not in known_names)])
    part = extract(graph, known_names, list(ends))
    operands = {v.name for op in part.ops for v in op.operands} | set(ends)
    inputs = tuple(v for v in part.inputs if v.name in operands)
    return Stretch(Graph(part.name, inputs, part.ops, part.outputs, part.output_names, part.stage),
                   tuple(cut))  # fmt: skip


def cut_before(graph: Graph, layers: Iterable[str]) -> tuple[str, ...]:
    """The values, made before the first of these layers, that it and the ops behind it read; the
    integers where a value is dequantized.
    """
    names = set(layers)
    at = next(i for i, op in enumerate(graph.ops) if op.names[0] in names)
    moving = {v.name for v in graph.inputs}
    for op in graph.ops[:at]:
        if any(v.name in moving for v in op.operands):
            moving.update(op.names)
    reads = (v for op in graph.ops[at:] for v in op.operands if v.name in moving)
    return tuple(dict.fromkeys(stored(graph, v) for v in reads))


class UnitProgram:
    """A graph ready to run many times; the values in `given` are taken as they come.

    What is rounded keeps the gradient of what was not, and none where it is clamped (the
    straight-through estimator of Bengio et al. 2013, arXiv:1308.3432).
    """

    def __init__(self, graph: Graph, sources: Sequence[str]) -> None:
        self.graph = graph
        self._fixed: dict[str, Any] = {}
        self._ops: list[Op] = []
        for op in _remaining_ops(graph, sources):
            args = [self._fixed.get(v.name) for v in op.operands]
            if all(arg is not None for arg in args):
                self._fixed.update(_results(op, args))
            else:
                self._ops.append(op)

    def __call__(self, inputs: Sequence[Any], values: Mapping[str, Any]) -> list[Any]:
        env = {**self._fixed, **values}
        env.update((v.name, x) for v, x in zip(self.graph.inputs, inputs, strict=True))
        for op in self._ops:
            env.update(_results(op, [env[v.name] for v in op.operands]))
        return [env[v.name] for v in self.graph.outputs]


def _remaining_ops(graph: Graph, sources: Sequence[str]) -> list[Op]:
    """The ops of a graph that remain to run when some values are known."""
    live, ops = {v.name for v in graph.outputs}, list[Op]()
    for op in reversed(graph.ops):
        if live.intersection(op.names) and op.names[0] not in sources:
            live.update(v.name for v in op.operands)
            ops.append(op)
    return ops[::-1]


def _results(op: Op, args: Sequence[Any]) -> dict[str, Any]:
    out = _smooth(op, op.unpack(tuple(args)))
    return dict(zip(op.names, out if isinstance(out, tuple) else (out,), strict=True))


@singledispatch
def _smooth(op: Op, args: list[Any]) -> Any:
    return op.compute(torch, *args)


@_smooth.register
def _(op: Quantize, args: list[Any]) -> Any:
    scale, zero = spread_torch(torch, op.to, op.x.type.shape)
    storage = op.to.storage
    soft = (args[0] / scale + zero).clamp(storage.min, storage.max)
    return soft + (op.compute(torch, args[0].detach()) - soft.detach())


@_smooth.register
def _(op: Dequantize, args: list[Any]) -> Any:
    quant = op.x.type.elem
    assert isinstance(quant, Quant)
    scale, zero = spread_torch(torch, quant, op.x.type.shape)
    return (args[0].float() - zero.float()) * scale
