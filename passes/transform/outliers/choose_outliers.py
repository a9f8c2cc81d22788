"""The treatment of outliers that helps, chosen on data for each tie class and each stream."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Graph
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.calibrate.ranges import cut, rows_of
from qir.passes.infra.manager import (
    Claim,
    Miss,
    Pass,
    Record,
    divide,
    keeps_reals,
    register,
)
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.outliers.consumers import Consumer, Form, Judge, captured
from qir.passes.transform.outliers.os_plus import suppression
from qir.passes.transform.outliers.rotate_residual import RotateResidual
from qir.passes.transform.outliers.smooth_quant import smoothing
from qir.passes.transform.outliers.tie_classes import Edits, TieClass, tie_classes

ALPHAS = (0.35, 0.5, 0.65, 0.8)
SHARES = (0.5, 0.3, 0.2, 0.12, 0.07, 0.04)  # of the greatest channel: t of Outlier Suppression+
RUNS = 4  # of the sample, half of them to choose by, half to judge the choice
SEEN = 2048  # elements of an input at least by which channels' bounds are known
TURN = 0.8  # of the errors without it: a rotation that leaves more is none
GAIN = 0.98  # of the error as it was: a choice that leaves more of it is none
AS_IT_WAS = "as it was"


@register
@dataclass(frozen=True)
class ChooseOutliers(Pass):
    """Each tie class as it was, or divided by the s of smooth-quant or of Outlier Suppression+,
    whichever rounds its consumers' outputs best; the stream rotated before that, where it helps

    A choice is made on half of a few runs of the sample by the squared error of what reads a class
    (attention, a product, linear ops), with x and weights rounded as they will be, and is kept if
    it helps on the other half too. A rotation is judged by the sum over classes, each relative to
    its outputs and with s of smooth-quant where that helps.
    Keeps: reals within 1e-3.
    Source: the methods: smooth-quant, outlier-suppression, rotate-residual; the choice: this
            project.
    """

    name: ClassVar[str] = "choose-outliers"
    claim: ClassVar[Claim] = keeps_reals(1e-3)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()
    weight_bits: int = 8
    is_static: bool = False

    def run(self, graph: Graph, record: Record) -> Graph:
        if not self.sample:
            record.misses.append(Miss("no sample is given"))
            return graph
        best, turn = Candidate(graph, self), RotateResidual()
        own = Record(turn.name, turn.claim)
        turned = turn.run(graph, own)
        record.misses += own.misses
        other = Candidate(turned, self) if own.rewrites else best
        if other.loss < TURN * best.loss:
            record.notes.append(f"{turn.name}: error {best.loss:.3g} -> {other.loss:.3g}")
            record.divided.update(own.divided)
            record.rewrites += own.rewrites
            best = other
        return best.chosen(record, self.name)


class Candidate:
    """A graph with its classes, and how well they are rounded."""

    def __init__(self, graph: Graph, how: ChooseOutliers) -> None:
        self.graph = graph
        found = list(tie_classes(graph))
        self.misses = [one for one in found if isinstance(one, Miss)]
        self.classes = [one for one in found if isinstance(one, TieClass)]
        names = {one.value.name for one in self.classes}
        trunk = up_to(graph, names)
        self.reach = channel_reach(trunk, _part(trunk, how.sample), names)
        self.runs = captured(trunk, how.sample, names, RUNS)
        self.form = Form(how.weight_bits, how.is_static)
        self.loss = sum(min(self._first(one)) for one in self.classes)

    def _first(self, one: TieClass) -> tuple[float, float]:
        """Errors of a class on half of the runs, as it is and smoothed."""
        judge = self._judge(one, 0)
        reach = self.reach[one.value.name].of_all
        return judge.error(np.ones(one.width)), judge.error(smoothing(self.graph, one, reach, 0.5))

    def _judge(self, one: TieClass, half: int) -> Judge:
        runs = self.runs[one.value.name]
        return Judge(Consumer(self.graph, one), runs[half::2] or runs, self.form)

    def chosen(self, record: Record, by: str) -> Graph:
        """The graph with the best s of each class."""
        edits = Edits()
        record.misses += self.misses
        for one in self.classes:
            judge, control = self._judge(one, 0), self._judge(one, 1)
            errors = {name: (judge.error(s), s) for name, s in self._choices(one)}
            name = min(errors, key=lambda n: errors[n][0])
            s, before = errors[name][1], control.error(np.ones(one.width), judge.reach)
            after = control.error(s, judge.reach)
            if name == AS_IT_WAS or after > GAIN * before:
                continue
            edits.divide(one, s)
            self._note(one, name, s, record)
        return edits.made(self.graph, by) if record.rewrites else self.graph

    def _choices(self, one: TieClass) -> Iterator[tuple[str, Array]]:
        reach = self.reach[one.value.name].of_all
        yield AS_IT_WAS, np.ones(one.width)
        for alpha in ALPHAS:
            yield f"smooth-quant {alpha:g}", smoothing(self.graph, one, reach, alpha)
        for share in SHARES:
            yield f"outlier-suppression {share:g}", suppression(one, reach, share)

    def _note(self, one: TieClass, name: str, s: Array, record: Record) -> None:
        reach = self.reach[one.value.name].of_all
        record.notes.append(f"{one}: {name}, {one.change(s, reach)}")
        record.rewrites += 1
        divide(record.divided, one.divided(s))


def up_to(graph: Graph, names: Container[str]) -> Graph:
    """What the values called `names` are computed by: a head costs as much as several layers."""
    values = tuple(v for v in graph.values if v.name in names)
    outputs = tuple(v.name for v in values)
    return replace(graph, outputs=values, output_names=outputs, states=()).without_dead_code()


def _part(graph: Graph, sample: tuple[Array, ...]) -> tuple[Array, ...]:
    """As much of the sample as bounds need."""
    first = graph.inputs[0]
    runs = max(2 * RUNS, -(-SEEN // max(1, first.type.size)))
    return cut(graph, sample, 0, rows_of(first) * runs)
