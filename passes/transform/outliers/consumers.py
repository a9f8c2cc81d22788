"""What reads a tie class, in floats and in the quantized form: by which choices are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Linear, RmsNorm, RoundRowBlocks
from qir.ir.ops.kinds import Elementwise, Layer
from qir.ir.ops.sequence.rope import Rotation
from qir.ir.torch_executor import FloatProgram, in_place
from qir.ir.types import Array
from qir.passes.calibrate.ranges import run_chunk, run_of
from qir.passes.infra.layers import constant_of
from qir.passes.transform.outliers.rotate_products import by_blocks, hadamard_matrix
from qir.passes.transform.outliers.tie_classes import TieClass

INNER = (Attention, Elementwise, RmsNorm, Rotation)
"""Ops between a class's layers and its output."""


@dataclass(frozen=True)
class Form:
    """How linear ops are quantized: bits of weights, a scale for each output; scales of rows at run
    time, with codes of so many bits, or one for all of x.
    """

    weight_bits: int = 8
    is_static: bool = False
    row_bits: int = 8

    def rounded(self, x: Any, reach: float) -> Any:
        """x as it is stored; of one scale those that `reach` covers."""
        if not self.is_static:
            width = x.shape[-1]
            rows = RoundRowBlocks(Value("x", None), width, self.row_bits, 0)  # type: ignore[arg-type]
            return rows.compute(torch, x)
        step = max(reach, 1e-30) / 127
        return torch.clamp(torch.floor(x / step + 0.5), -127, 127) * step

    def rounded_weights(self, w: Any) -> Any:
        top = (1 << (self.weight_bits - 1)) - 1
        low, high = torch.aminmax(w, dim=1, keepdim=True)
        step = torch.maximum(-low, high).clamp(min=1e-30) / top
        return w.div(step).round_().mul_(step)


class Consumer:
    """The outputs of what reads a class, as a function of x and of the weights of its consumers: of
    attention, of a product, of the linear ops where neither follows.
    """

    def __init__(self, graph: Graph, one: TieClass) -> None:
        self.one = one
        inside: dict[str, Op] = {op.names[0]: op for op in one.consumers}
        for op in graph.ops:
            if not isinstance(op, INNER) or isinstance(op, Layer) or op.names[0] in inside:
                continue
            known = [v for v in op.operands if constant_of(graph, v) is None]
            if known and all(v.name in inside for v in known):
                inside[op.names[0]] = op
        read = {v.name for op in inside.values() for v in op.operands}
        b = Builder("consumer", graph.stage)
        now = {one.value.name: b.input("x", one.value.type)}
        for i, layer in enumerate(one.consumers):
            now[layer.w.name] = b.input(f"w{i}", layer.w.type)
        for op in (op for op in graph.ops if op.names[0] in inside):
            for v in op.operands:
                if v.name not in now:
                    now[v.name] = b.add(_maker(graph, v))
            now[op.names[0]] = b.add(op.rebind(lambda v: now[v.name]), op.names[0])
        outputs = [now[name] for name in inside if name not in read]
        self.program = FloatProgram(b.finish(outputs))
        self.weights = [_weights(graph, op) for op in one.consumers]

    def outputs(self, runs: Sequence[Any], weights: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            found = [self.program(x, *weights) for x in runs]
        return [torch.cat([ys[i] for ys in found]) for i in range(len(found[0]))]


def _maker(graph: Graph, value: Value) -> Op:
    return graph.producers[value.name]


def _weights(graph: Graph, layer: Linear) -> Any:
    array = constant_of(graph, layer.w)
    assert array is not None
    return in_place(array.astype(np.float32, copy=False))


class Judge:
    """The relative squared error of a consumer's outputs for changes of its x, on runs of it: each
    channel divided by its s, then blocks of so many channels, if any, rotated.
    """

    def __init__(self, consumer: Consumer, runs: Sequence[Any], form: Form) -> None:
        self.consumer, self.runs, self.form = consumer, runs, form
        self.reals = consumer.outputs(runs, consumer.weights)

    def error(self, s: Array, block: int = 0, reach: float | None = None) -> float:
        """`reach`: of x elsewhere, which static scales cover; else that of here."""
        by, turn = self._change(s, block)
        weights = [self.form.rounded_weights(turn(w * by)) for w in self.consumer.weights]
        reach = self.reach(s, block) if reach is None else reach
        runs = [self.form.rounded(turn(x / by), reach) for x in self.runs]
        outputs = self.consumer.outputs(runs, weights)
        return sum(
            float((a - b).pow(2).sum() / a.pow(2).sum().clamp(min=1e-30))
            for a, b in zip(self.reals, outputs, strict=True)
        )

    def reach(self, s: Array, block: int = 0) -> float:
        """max|x| of what is changed so."""
        by, turn = self._change(s, block)
        return max(float(turn(x / by).abs().max()) for x in self.runs)

    def _change(self, s: Array, block: int) -> tuple[Any, Callable[[Any], Any]]:
        """s of each channel of x, and the rotation of blocks."""
        by = torch.from_numpy(s[self.consumer.one.spread].astype(np.float32))
        if not block:
            return by, lambda x: x
        matrix = torch.from_numpy(hadamard_matrix(block).astype(np.float32))
        return by, lambda x: by_blocks(x, matrix)


def reach_of(runs: Sequence[Any]) -> Any:
    """max|x| of each channel over runs of x (..., C)."""
    return torch.stack([x.abs().reshape(-1, x.shape[-1]).amax(0) for x in runs]).amax(0)


def captured(
    graph: Graph, sample: tuple[Array, ...], names: set[str], runs: int
) -> Mapping[str, list[Any]]:
    """What values are on a few runs spread over the sample."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    programs: dict[int, FloatProgram | None] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in found:
            found[value.name].append(x.detach().clone())

    count = len(sample[0]) // max(1, graph.inputs[0].type.shape[0])
    for i in np.unique(np.linspace(0, count - 1, min(runs, count)).astype(int)):
        run_chunk(graph, run_of(graph, sample, int(i)), watch, programs)
    return found
