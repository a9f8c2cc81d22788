"""Activations divided, and the weights that read them multiplied, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.graph import Graph
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.equalize_channels import widened
from qir.passes.transform.outliers.tie_classes import Edits, TieClass, tie_classes


@register
@dataclass(frozen=True)
class SmoothQuant(Pass):
    """linear(x, w) -> linear(x / s, w * s), s = max|x|**alpha / max|w|**(1 - alpha) by channel

    One s for all linear ops that read x (a tie class), over its geometric mean. It is folded into
    what makes x: a norm's gain, or rows of the linear op behind attention's values or a product;
    under grouped queries one for each channel of a key-value head.
    Keeps: reals within 1e-4.
    Source: Xiao et al. 2023, arXiv:2211.10438, section 4; values and products: this project.
    """

    name: ClassVar[str] = "smooth-quant"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()
    alpha: float = 0.5

    def run(self, graph: Graph, record: Record) -> Graph:
        if not self.sample:
            record.misses.append(Miss("no sample is given"))
            return graph
        found = list(tie_classes(graph))
        record.misses += [one for one in found if isinstance(one, Miss)]
        classes = [one for one in found if isinstance(one, TieClass)]
        reach = channel_reach(graph, self.sample, {one.value.name for one in classes})
        edits = Edits()
        for one in classes:
            of_all = reach[one.value.name].of_all
            s = smoothing(graph, one, of_all, self.alpha)
            edits.divide(one, s)
            record.notes.append(f"{one}: {one.change(s, of_all)}")
            record.divided.update(one.divided(s))
            record.rewrites += 1
        return edits.made(graph, self.name) if record.rewrites else graph


def smoothing(graph: Graph, one: TieClass, reach: Array, alpha: float) -> Array:
    """s of a class, (width,)."""
    weights = [np.abs(constant_of(graph, op.w)).max(0) for op in one.consumers]  # type: ignore[arg-type]
    w = widened(one.joined(np.max(weights, axis=0).astype(np.float64)))
    s = widened(one.joined(reach)) ** alpha / w ** (1 - alpha)
    return np.asarray(s / np.exp(np.log(s).mean()))
