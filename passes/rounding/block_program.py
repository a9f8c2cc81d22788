"""Runs a unit of a simulated graph in torch with weights from elsewhere, differentiable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import torch

from qir.ir.graph import Graph
from qir.ir.op import Op
from qir.ir.ops import Dequantize, Quantize
from qir.ir.ops.quantize import spread_torch
from qir.ir.types import Quant


class UnitProgram:
    """A graph ready to run many times; the values in `given` are taken as they come.

    What is rounded keeps the gradient of what was not, and none where it is clamped (the
    straight-through estimator of Bengio et al. 2013, arXiv:1308.3432).
    """

    def __init__(self, graph: Graph, given: Sequence[str]) -> None:
        self.graph = graph
        self._fixed: dict[str, Any] = {}
        self._ops: list[Op] = []
        for op in _needed(graph, given):
            args = [self._fixed.get(v.name) for v in op.operands]
            if all(arg is not None for arg in args):
                self._fixed.update(_results(op, args))
            else:
                self._ops.append(op)

    def __call__(self, inputs: Sequence[Any], given: Mapping[str, Any]) -> list[Any]:
        env = {**self._fixed, **given}
        env.update((v.name, x) for v, x in zip(self.graph.inputs, inputs, strict=True))
        for op in self._ops:
            env.update(_results(op, [env[v.name] for v in op.operands]))
        return [env[v.name] for v in self.graph.outputs]


def _needed(graph: Graph, given: Sequence[str]) -> list[Op]:
    """The ops of a graph that are still to run when some values are given."""
    needed, ops = {v.name for v in graph.outputs}, list[Op]()
    for op in reversed(graph.ops):
        if needed.intersection(op.names) and op.names[0] not in given:
            needed.update(v.name for v in op.operands)
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
    kept = op.to.storage
    soft = (args[0] / scale + zero).clamp(kept.min, kept.max)
    return soft + (op.compute(torch, args[0].detach()) - soft.detach())


@_smooth.register
def _(op: Dequantize, args: list[Any]) -> Any:
    quant = op.x.type.elem
    assert isinstance(quant, Quant)
    scale, zero = spread_torch(torch, quant, op.x.type.shape)
    return (args[0].float() - zero.float()) * scale
