"""Channels of layer norms shifted and scaled so that one scale for a row fits them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, LayerNorm, Linear
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, rows_of, run_chunk
from qir.passes.infra.layers import bias_of, weights_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.equalize_channels import STEPS_W, widened

RUNS = 64  # of the sample
ROWS = 2048  # of each norm, of all runs
CODES = 127  # of a row's greatest element
LEAST_GAIN = {True: 1.0, False: 1.25}  # of noise; more where the norm is computed twice


@register
@dataclass(frozen=True)
class EqualizeNorms(Pass):
    """layer_norm(x, g, o), read by linear ops of weights w -> layer_norm(x, g / s, (o - z) / s),
    w * s, bias + w @ z; s and z by channel

    z is the mean of a channel and s = sqrt(its standard deviation / the length of its column of w):
    then channels differ less, and a row's scale fits all of them. What else reads the norm, such as
    the residual behind it, reads the old one. Done where it lessens the noise on the sample, of
    rows rounded to 8 bits and of weights.
    Keeps: reals within 1e-4.
    Source: shifts and scales in norms: Wei et al. 2023, arXiv:2304.09145, section 4.1; their choice
            by moments, norms with other readers: this project.
    """

    name: ClassVar[str] = "equalize-norms"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        changes: dict[str, Change] = {}
        norms = {op.names[0]: op for op in graph.ops if isinstance(op, LayerNorm)}
        if not norms or not self.sample:
            record.misses.append(Miss("no layer norm" if self.sample else "no sample is given"))
            return graph
        rows = rows_by_name(graph, self.sample, norms)
        for name, op in norms.items():
            change = change_of(graph, op, rows[name])
            if isinstance(change, Miss):
                record.misses.append(Miss(change.why, name))
                continue
            changes[name] = change
            record.rewrites += 1
        return apply_changes(graph, changes, self.name) if changes else graph


@dataclass(frozen=True)
class Change:
    """What a norm's channels are shifted and then divided by, (C,), and the layers that read it
    so.
    """

    shift: Array
    scale: Array
    readers: frozenset[str] = field(default_factory=frozenset)


def rows_by_name(
    graph: Graph, sample: tuple[Array, ...], names: Mapping[str, Op]
) -> Mapping[str, Array]:
    """Rows (R, C) of each value, at most about ROWS."""
    run_rows = rows_of(graph.inputs[0])
    runs, size = min(RUNS, len(sample[0]) // run_rows), chunk_of(graph)
    pieces: dict[str, list[Array]] = {name: [] for name in names}

    def watch(value: Value, x: Any) -> None:
        if value.name in pieces:
            step = max(1, runs * (value.type.size // value.type.shape[-1]) // ROWS)
            pieces[value.name].append(x.reshape(-1, x.shape[-1])[::step].double().numpy())

    for i in range(0, runs * run_rows, size):
        run_chunk(graph, cut(graph, sample, i, min(i + size, runs * run_rows)), watch)
    return {name: np.concatenate(parts) for name, parts in pieces.items()}


def change_of(graph: Graph, op: LayerNorm, rows: Array) -> Change | Miss:
    """The shift and the scale, each only if the noise is less with it."""
    users = graph.users.get(op.names[0], ())
    readers = [r for r in users if isinstance(r, Linear) and is_float(graph, r)]
    if not readers:
        return Miss("no linear op of float constants reads it")
    parameters = [p for p in (op.gain, op.offset) if p is not None]
    if not all(isinstance(graph.producers.get(p.name), Constant) for p in parameters):
        return Miss("its gain or offset is computed")
    w = np.concatenate([np.asarray(weights_of(graph, r), np.float64) for r in readers])
    columns = np.sqrt(widened((w**2).sum(0)))
    mean, none, one = rows.mean(0), np.zeros(w.shape[1]), np.ones(w.shape[1])
    candidates = [
        (none, one),
        (none, scale_of(np.sqrt((rows**2).mean(0)), columns)),
        (mean, scale_of(rows.std(0), columns)),
    ]
    noises = [noise(rows, w, *each) for each in candidates]
    best = int(np.argmin(noises))
    is_output = any(v.name == op.names[0] for v in graph.outputs)
    is_second = is_output or len(readers) < len(users)
    if noises[0] <= noises[best] * LEAST_GAIN[not is_second]:
        return Miss(f"its noise falls by a factor of {noises[0] / noises[best]:.2f} at most")
    return Change(*candidates[best], frozenset(r.names[0] for r in readers))


def is_float(graph: Graph, op: Linear) -> bool:
    bias = op.bias is None or bias_of(graph, op) is not None
    return bias and op.w.type.is_float and weights_of(graph, op) is not None


def scale_of(reach: Array, columns: Array) -> Array:
    """sqrt(reach / columns) over its geometric mean."""
    s = np.sqrt(widened(reach) / columns)
    return np.asarray(s / np.exp(np.log(s).mean())) if reach.any() else np.ones_like(reach)


def noise(rows: Array, w: Array, shift: Array, scale: Array) -> float:
    """The mean squared error of a row's outputs, times 12, by rounding of the row and of w."""
    x, wide = (rows - shift) / scale, w * scale
    of_rows = float((np.abs(x).max(1) ** 2).mean()) / CODES**2 * float((wide**2).sum())
    of_weights = float((np.abs(wide).max(1) ** 2).sum()) / STEPS_W**2
    return of_rows + of_weights * float((x**2).sum(1).mean())


def apply_changes(graph: Graph, changes: Mapping[str, Change], by: str) -> Graph:
    """The graph with these norms beside the old ones, and the layers that read them."""
    even: dict[str, Value] = {}  # the new norm for each old one

    def change(op: Op, builder: Builder) -> Op:
        name, old = op.names[0], graph.producers[op.names[0]]
        if not (isinstance(op, Linear) and isinstance(old, Linear)):
            return op
        norm_change = changes.get(old.x.name)
        if norm_change is None or name not in norm_change.readers:
            return op
        if old.x.name not in even:
            even[old.x.name] = even_norm(graph, old.x.name, op.x, norm_change, builder, by)
        w = elements_of(graph, old.w)
        bias = w @ norm_change.shift + (0 if old.bias is None else elements_of(graph, old.bias))
        return replace(
            op,
            x=even[old.x.name],
            w=constant(builder, old.w.name, w * norm_change.scale),
            bias=constant(builder, f"{name}_bias", bias),
            loc=op.loc.touched(by),
        )

    return graph.mapped(change)


def even_norm(
    graph: Graph, name: str, x: Value, change: Change, builder: Builder, by: str
) -> Value:
    """A norm of the graph, whose value is `x` in the new one, again with the change."""
    old, new, s = graph.producers[name], builder.producer(x), change.scale
    assert isinstance(old, LayerNorm) and isinstance(new, LayerNorm)
    gain = np.ones_like(s) if old.gain is None else elements_of(graph, old.gain)
    offset = np.zeros_like(s) if old.offset is None else elements_of(graph, old.offset)
    norm = replace(
        new,
        gain=constant(builder, f"{name}_gain", gain / s),
        offset=constant(builder, f"{name}_offset", (offset - change.shift) / s),
        names=(),
        loc=new.loc.touched(by),
    )
    return builder.add(norm, f"{name}_even")


def constant(builder: Builder, name: str, elements: Array) -> Value:
    return builder.add(Constant.of(elements.astype(np.float32)), f"{name}_even")


def elements_of(graph: Graph, value: Value) -> Array:
    """The elements of a constant, in float64."""
    producer = graph.producers[value.name]
    assert isinstance(producer, Constant)
    return producer.value.array.astype(np.float64)
