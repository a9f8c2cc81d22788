"""Layers that single tokens leave out, behind a prompt that all layers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qir.ir.errors import PassError
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Requantize
from qir.ir.types import Quant
from qir.passes.infra.manager import Miss
from qir.passes.transform.depth.group_layers import layers_of


@dataclass(frozen=True)
class DecodeSkip:
    """Leave out layers for the tokens that are written one by one, so that about 1 / `speedup` of
    them are left, at even distances; a prompt is read by all.

    Without training for it the loss is large: 1.2 costs half a nat on a model of 12 layers.
    """

    speedup: float

    def __post_init__(self) -> None:
        fits = isinstance(self.speedup, (int, float)) and not isinstance(self.speedup, bool)
        if not fits or not 1 < self.speedup < float("inf"):
            raise PassError(f"skip: speedup is {self.speedup!r}, above 1 is needed")


def kept_layers(count: int, speedup: float) -> tuple[int, ...]:
    """The layers that a token is read by: R = int(count / speedup), the first and the last, and of
    those between each interval-th from the first on, interval = int(count / (R - 1)), up to R.

    Source: Unified Layer Skipping, arXiv:2404.06954, section 3.
    """
    most = int(count / speedup)
    if most < 2:
        return tuple(sorted({0, count - 1}))
    interval = int(count / (most - 1))
    between = [i for i in range(1, count - 1) if i % interval == 0][: most - 2]
    return (0, *between, count - 1) if count > 1 else (0,)


def skipped_spans(graph: Graph, speedup: float) -> dict[str, str]:
    """By the last sum of each layer that a token leaves out, the value of the stream before it.

    Errors: PassError for a graph without layers, or where none is left out.
    """
    every = layers_of(graph, "skip")
    layers_left = kept_layers(len(every), speedup)
    spans = {mlp.name: a.stream.name for i, (a, mlp) in enumerate(every) if i not in layers_left}
    if not spans:
        raise PassError(
            f"skip: {len(every)} layers at speedup {speedup:g}, all of them stay; a greater speedup"
            " is needed"
        )
    return spans


def skip_decode(entry: Graph, spans: Mapping[str, str]) -> Graph | Miss:
    """An integer graph behind caches -> the same in which the stream passes by some layers: what
    reads y = layer(x) reads requantize(x) in the steps of y

    A layer that is passed by still computes its keys and values of the stream that passes, and
    writes them: a prompt that is read later sees what the stream was. No query of it is computed.
    Source: the stream that is passed on as in CALM, arXiv:2207.07061; the authors of
    arXiv:2404.06954 give such a layer the keys of the nearest layer below that is kept, which
    nothing reads as long as no prompt follows.
    """
    missing = [name for pair in spans.items() for name in pair if name not in entry.producers]
    if missing:
        return Miss("the integer graph has no value of this name", missing[0])
    values: dict[str, Value] = {}

    def rewrite(op: Op, builder: Builder) -> Op | tuple[Value, ...]:
        name = op.names[0]
        if name not in spans:
            return op
        before = spans[name]
        x = values.get(before, entry.producers[before].result)
        values[name] = (
            x if x.type == op.result.type else builder.add(requantized(x, op), f"{name}_by")
        )
        return (values[name],)

    return entry.mapped(rewrite)


def requantized(x: Value, like: Op) -> Requantize:
    """The stream in the steps of a layer's result."""
    to = like.result.type.elem
    assert isinstance(to, Quant)
    ratio = Dyadic.of(float(x.type.quant.scale.array / to.scale.array))
    storage = to.storage
    return Requantize(
        (x,), to, (ratio.mult,), ratio.shift, storage.min, storage.max, Rounding.HALF_UP,
        loc=like.loc,
    )  # fmt: skip
