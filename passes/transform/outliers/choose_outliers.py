"""The treatment of outliers that helps, chosen on data for each tie class and each stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.graph import Graph
from qir.ir.ops import Mul
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.manager import (
    Claim,
    Miss,
    Pass,
    Record,
    divide,
    keeps_reals,
    register,
)
from qir.passes.transform.channel_ranges import up_to
from qir.passes.transform.outliers.consumers import Consumer, Form, Judge, captured, reach_of
from qir.passes.transform.outliers.os_plus import suppression
from qir.passes.transform.outliers.rotate_products import RotateProducts, greatest_block
from qir.passes.transform.outliers.rotate_residual import RotateResidual
from qir.passes.transform.outliers.smooth_quant import smoothing
from qir.passes.transform.outliers.tie_classes import Edits, TieClass, tie_classes

AS_IT_WAS = "as it was"
SMOOTHED = "smooth-quant 0.5"
SMOOTHINGS = {f"smooth-quant {alpha:g}": alpha for alpha in (0.35, 0.5, 0.65, 0.8)}
SUPPRESSIONS = {  # by the share of the greatest channel: t of Outlier Suppression+
    f"outlier-suppression {share:g}": share for share in (0.5, 0.3, 0.2, 0.12, 0.07, 0.04)
}
RUNS = 4  # of the sample at least, by which channels' bounds are known
SEEN = 1024  # elements of an input at least, for the same
JUDGED = 256  # elements of an input to choose by, and as many to judge the choice: one run or two
TURN = 0.8  # of the errors without it: a rotation that leaves more is none
WAYS = (
    (SMOOTHED, "smooth-quant 0.65", "smooth-quant 0.8"),
    (SMOOTHED, "smooth-quant 0.35"),
    (AS_IT_WAS, *SUPPRESSIONS),
)
GAIN = 0.8  # of the error as it was: a choice that leaves more of it is none
MUCH = 0.7  # of the error of the best s: a rotation at run time that leaves more is none


@register
@dataclass(frozen=True)
class ChooseOutliers(Pass):
    """Each tie class as it was, or divided by the s of smooth-quant or of Outlier Suppression+,
    whichever rounds its consumers' outputs best; the stream rotated before that, where it helps,
    and products at run time, where that helps much

    A choice is made on half of a few runs of the sample by the squared error of what reads a class
    (attention, a product, linear ops), with x and weights rounded as they will be, and is kept if
    it helps on the other half too. A rotation is judged by the sum over classes, each relative to
    its outputs and with s of smooth-quant where that helps. One of a product costs an op, and is
    kept, behind the best s, where it leaves less than 0.7 of the error.
    Keeps: reals within 1e-3.
    Source: the methods: smooth-quant, outlier-suppression, rotate-residual, rotate-products; the
            choice: this project.
    """

    name: ClassVar[str] = "choose-outliers"
    claim: ClassVar[Claim] = keeps_reals(1e-3)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()
    weight_bits: int = 8
    is_static: bool = False
    row_bits: int = 8

    def run(self, graph: Graph, record: Record) -> Graph:
        if not self.sample:
            record.misses.append(Miss("no sample is given"))
            return graph
        turn = RotateResidual()
        own = Record(turn.name, turn.claim)
        turned = turn.run(graph, own)
        record.misses += own.misses
        if not own.rewrites:
            return Candidate(graph, self).chosen(record, self.name)
        loss = Candidate(graph, self).loss  # one at a time: each keeps a few runs of all classes
        best = Candidate(turned, self)
        if best.loss < TURN * loss:
            record.notes.append(f"{turn.name}: error {loss:.3g} -> {best.loss:.3g}")
            record.divided.update(own.divided)
            record.rewrites += own.rewrites
        else:
            del turned, best
            best = Candidate(graph, self)
        return best.chosen(record, self.name)


class Candidate:
    """A graph with its classes, and how well they are rounded.

    `errors`: of each class, by the name of the value, on half of the runs for some of the choices.
    """

    def __init__(self, graph: Graph, how: ChooseOutliers) -> None:
        self.graph = graph
        found = list(tie_classes(graph))
        self.misses = [one for one in found if isinstance(one, Miss)]
        self.classes = [one for one in found if isinstance(one, TieClass)]
        names = {one.value.name for one in self.classes}
        trunk = up_to(graph, names)
        size = max(1, trunk.inputs[0].type.size)
        self.runs = captured(trunk, how.sample, names, max(RUNS, -(-SEEN // size)))
        self.reach = {name: reach_of(xs).double().numpy() for name, xs in self.runs.items()}
        self.judged = max(1, min(RUNS // 2, -(-JUDGED // size)))
        self.form = Form(how.weight_bits, how.is_static, how.row_bits)
        self.judges = {one.value.name: self._judge(one, 0) for one in self.classes}
        self.errors = {
            one.value.name: self._errors(one, [AS_IT_WAS, SMOOTHED]) for one in self.classes
        }
        self.loss = sum(min(each.values()) for each in self.errors.values())

    def _judge(self, one: TieClass, half: int) -> Judge:
        runs = self.runs[one.value.name]
        chosen = runs[half::2] or runs
        return Judge(Consumer(self.graph, one), chosen[: self.judged], self.form)

    def _errors(self, one: TieClass, choices: Iterable[str]) -> dict[str, float]:
        judge = self.judges[one.value.name]
        return {name: judge.error(self._scales(one, name)) for name in choices}

    def _scales(self, one: TieClass, choice: str) -> Array:
        """s of a choice."""
        reach = self.reach[one.value.name]
        if choice in SMOOTHINGS:
            return smoothing(self.graph, one, reach, SMOOTHINGS[choice])
        if choice in SUPPRESSIONS:
            return suppression(one, reach, SUPPRESSIONS[choice])
        return np.ones(one.width)

    def chosen(self, record: Record, by: str) -> Graph:
        """The graph with the best change of each class."""
        edits, products = Edits(), []
        record.misses += self.misses
        for one in self.classes:
            name = self._best(one)
            s, block = self._scales(one, name), self._block(one, name)
            if (name == AS_IT_WAS and not block) or not self._helps(one, s, block):
                continue
            if block:
                products.append(one.value.name)
            if name != AS_IT_WAS:
                edits.divide(one, s)
                divide(record.divided, one.divided(s))
            how = f"{name}, {RotateProducts.name}" if block else name
            record.notes.append(f"{one}: {how}, {one.change(s, self.reach[one.value.name])}")
            record.rewrites += 1
        graph = edits.made(self.graph, by) if edits.columns else self.graph
        turn = RotateProducts(tuple(products))
        return turn.run(graph, Record(turn.name, turn.claim)) if products else graph

    def _best(self, one: TieClass) -> str:
        """The choice of least error, each way followed as long as errors become no larger."""
        errors = self.errors[one.value.name]
        for first, *way in WAYS:
            last = errors[first]
            for name in way:
                errors |= self._errors(one, [name])
                if errors[name] > last:
                    break
                last = errors[name]
        return min(errors, key=lambda name: errors[name])

    def _block(self, one: TieClass, name: str) -> int:
        """Channels of the blocks to rotate at run time, where the class is a product and that is
        much better than the choice alone; else 0.
        """
        if not isinstance(self.graph.producers[one.value.name], Mul):
            return 0
        judge, block = self.judges[one.value.name], greatest_block(one.width)
        rotated = judge.error(self._scales(one, name), block)
        return block if rotated < MUCH * self.errors[one.value.name][name] else 0

    def _helps(self, one: TieClass, s: Array, block: int) -> bool:
        """Whether it does on the other half of the runs."""
        control, judge, ones = self._judge(one, 1), self.judges[one.value.name], np.ones(one.width)
        error = control.error(s, block, judge.reach(s, block))
        return error <= GAIN * control.error(ones, reach=judge.reach(ones))
