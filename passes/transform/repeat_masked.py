"""Masked scores that are shown: a softmax reads them in a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Softmax
from qir.ir.ops.kinds import Elementwise
from qir.ir.stages import FLOAT_STAGES
from qir.passes.calibrate.ranges import FAR
from qir.passes.infra.manager import Claim, Pass, Record, register
from qir.passes.transform.channel_ranges import Reach


@register
@dataclass(frozen=True)
class RepeatMasked(Pass):
    """y = f(s, mask), an output; softmax(y) -> the same y, softmax(f(s, mask))

    f is elementwise, and y reaches as far as a mask of -1e9 does. As an output y has steps in which
    nothing is left of the scores. What softmax reads may be clamped to where that changes nothing,
    if nothing else reads it; so it reads a result of its own.
    Keeps: every bit.
    Source: this project.
    """

    name: ClassVar[str] = "repeat-masked"
    claim: ClassVar[Claim] = Pass.claim
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    reach: Mapping[str, Reach] = field(default_factory=dict)  # of channels, on a sample

    def run(self, graph: Graph, record: Record) -> Graph:
        masked = {v.name for v in graph.outputs if self._is_masked(graph, v)}
        if not masked:
            return graph
        ends = {name: float(self.reach[name].of_all.max()) for name in masked}
        record.warnings += [
            f"output %{name}: reaches {end:.3g}, as a mask does, and has one scale"
            for name, end in sorted(ends.items())
        ]
        record.rewrites = len(masked)

        def change(op: Op, builder: Builder) -> Op:
            if not isinstance(op, Softmax) or op.x.name not in masked:
                return op
            maker = builder.producer(op.x)
            assert maker is not None
            copy = maker.on(*(_copied(v, builder) for v in maker.operands))
            return replace(op, x=builder.add(replace(copy, names=()), f"{op.x.name}_again"))

        return graph.mapped(change)

    def _is_masked(self, graph: Graph, value: Value) -> bool:
        readers = graph.users.get(value.name, ())
        if not any(isinstance(op, Softmax) for op in readers) or value.name not in self.reach:
            return False
        is_far = float(self.reach[value.name].of_all.max(initial=0)) > FAR
        return is_far and isinstance(graph.producers.get(value.name), Elementwise)


def _copied(value: Value, builder: Builder) -> Value:
    """Another constant in place of one, as a mask is clamped for all of its readers."""
    maker = builder.producer(value)
    if not isinstance(maker, Constant):
        return value
    return builder.add(replace(maker, names=()), f"{value.name}_again")
