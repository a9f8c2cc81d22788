"""Outlier Suppression+: channels shifted to their middle, those beyond a threshold scaled to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.graph import Graph
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.outliers.consumers import Consumer, Form, Judge, captured
from qir.passes.transform.outliers.tie_classes import Edits, TieClass, tie_classes

THRESHOLDS = 16  # t that are tried
LEAST = 1 / 64  # of the greatest channel: the least t
RUNS = 2  # of the sample, to judge by


@register
@dataclass(frozen=True)
class OutlierSuppression(Pass):
    """linear(x, w) -> linear(x / s, w * s), s = max(1, max|x| / t) by channel, t of a grid

    One s for all linear ops that read x (a tie class); t is the one with the least squared error of
    what reads the class: attention, a product, linear ops, with x and weights rounded.
    Keeps: reals within 1e-4.
    Source: Wei et al. 2023, arXiv:2304.09145; the grid is even in log t here.
    """

    name: ClassVar[str] = "outlier-suppression"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()
    weight_bits: int = 8
    is_static: bool = False

    def run(self, graph: Graph, record: Record) -> Graph:
        if not self.sample:
            record.misses.append(Miss("no sample is given"))
            return graph
        found = list(tie_classes(graph))
        record.misses += [one for one in found if isinstance(one, Miss)]
        classes = [one for one in found if isinstance(one, TieClass)]
        names = {one.value.name for one in classes}
        reach = channel_reach(graph, self.sample, names)
        runs = captured(graph, self.sample, names, RUNS)
        edits, form = Edits(), Form(self.weight_bits, self.is_static)
        for one in classes:
            judge = Judge(Consumer(graph, one), runs[one.value.name], form)
            grid = np.geomspace(1.0, LEAST, THRESHOLDS)
            choices = [suppression(one, reach[one.value.name].of_all, share) for share in grid]
            s = min(choices, key=judge.error)
            if s.max() > 1:
                edits.divide(one, s)
                record.notes.append(f"{one}: {one.change(s, reach[one.value.name].of_all)}")
                record.divided.update(one.divided(s))
                record.rewrites += 1
        return edits.made(graph, self.name) if record.rewrites else graph


def suppression(one: TieClass, reach: Array, share: float) -> Array:
    """s of a class for t = share * the greatest channel, (width,)."""
    own = one.joined(reach)
    return np.asarray(np.maximum(1.0, own / max(float(own.max()) * share, 1e-30)))
