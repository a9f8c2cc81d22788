"""Outliers put into a model that has none: it makes any model hard in the way large ones are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.graph import Graph
from qir.ir.ops import Linear
from qir.ir.stages import FLOAT_STAGES
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.outliers.tie_classes import Edits, tie_classes


@register
@dataclass(frozen=True)
class InjectOutliers(Pass):
    """linear(norm(x), w) -> linear(norm(x) * s, w / s), s = `factor` in a few channels, 1 elsewhere

    Gains of norms go up, columns of the weights behind them down; a test tool, which no pipeline
    runs. `share` of the channels, at least one, are drawn for each norm by `seed`; with
    `everywhere` values of attention and gated products get outliers too.
    Keeps: reals within 1e-3.
    Source: this project; outliers in gains as found by Wei et al. 2022, arXiv:2209.13325.
    """

    name: ClassVar[str] = "inject-outliers"
    claim: ClassVar[Claim] = keeps_reals(1e-3)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    factor: float = 40.0
    share: float = 0.02
    everywhere: bool = False
    seed: int = 0

    def run(self, graph: Graph, record: Record) -> Graph:
        rng, edits = np.random.default_rng(self.seed), Edits()
        for one in tie_classes(graph):
            if isinstance(one, Miss):
                record.misses.append(one)
                continue
            if isinstance(one.source, Linear) and not self.everywhere:
                continue
            count = max(1, round(self.share * one.width))
            s = np.ones(one.width)
            s[rng.choice(one.width, count, replace=False)] = 1 / self.factor
            edits.divide(one, s)
            record.divided.update(one.divided(s))
            record.rewrites += 1
        return edits.made(graph, self.name) if record.rewrites else graph
