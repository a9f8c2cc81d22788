"""The language models, as float graphs, and their text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from qir.ir.graph import Graph
from qir.models import imported
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE, lower
from qir.passes.transform.depth.sublayers import Sublayer, sublayers_of
from tests.accuracy.language import Case, of_zoo, smollm2

NAMES = ("shakespeare12", "stories260k", "smollm2")


@dataclass(frozen=True)
class Subject:
    """A model, and rows of tokens (S, N) to choose by and to judge by."""

    name: str
    case: Case

    @cached_property
    def graph(self) -> Graph:
        graph = imported(self.case.model, [self.case.calibration[:1]], None, None)
        if graph.stage == "imported":
            graph = Manager().run(graph, CANONICALIZE)
        return Manager().run(graph, lower(graph))

    @cached_property
    def parts(self) -> tuple[Sublayer, ...]:
        return sublayers_of(self.graph, "bench")


def subject(name: str) -> Subject:
    return Subject(name, smollm2() if name == "smollm2" else of_zoo(name))
