"""The stages of one compile: a graph on its way from a model to integers."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

from qir.inputs import batches_in_order
from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.passes import pipelines
from qir.passes.infra.manager import Manager, Pass, divisors
from qir.passes.quantize.place_rows import with_rows
from qir.passes.quantize.placement import plan_quantization
from qir.passes.sensitivity.sqnr import Pairs, measure_sqnr
from qir.passes.transform.blocks.caches import PLANS, CachePlan, Trial, choose_plan, head_of
from qir.passes.transform.blocks.outcome import Caches
from qir.passes.transform.channel_ranges import first_samples, held_back
from qir.passes.transform.depth.outcome import Depth
from qir.passes.transform.depth.requests import AS_IT_IS, Planner, Shallower
from qir.quantize import Quantizer
from qir.report.chosen_bits import ChosenBits

SQNR_SAMPLES = 16  # calibration samples on which every value is compared with the float graph,
COMPARED = 1 << 25  # or fewer, of so many elements of outputs: logits of all tokens are large


class Stages:
    """The graphs of a compile by their stage, from whichever the model has to `integer`.

    newest:  the last of them;
    graphs:  all of them, by stage;
    chosen_bits: of the layers, in mixed precision;
    depth:   what is left out or side by side, as `shallower` asks;
    caches:  how keys and values are stored; None until one is chosen on the sample;
    cache_facts: what a report says of that; None of 8 bits that were asked for.
    """

    def __init__(
        self, graph: Graph, batches: Iterable[Any] | None, quantizer: Quantizer, manager: Manager,
        caches: CachePlan | None = PLANS[8], shallower: Shallower = AS_IT_IS,
    ) -> None:  # fmt: skip
        self.newest = graph
        self.graphs = {graph.stage: graph}
        self.quantizer, self.manager = quantizer, manager
        self.chosen_bits: ChosenBits | None = None
        self.shallower = shallower
        self.depth: Depth | None = None
        self.caches = caches
        self.cache_facts: Caches | None = None
        self._batches = batches and batches_in_order(batches, [v.name for v in graph.inputs])
        self._sample: tuple[Any, ...] = ()
        self._control: tuple[Any, ...] = ()

    def run(self, passes: Sequence[Pass]) -> None:
        """Make the stages that are left; `passes` run on the canonical graph."""
        if self.newest.stage == "imported":
            self._reach(self.manager.run(self.newest, pipelines.CANONICALIZE))
        if self.newest.stage == "canonical":
            self.newest = self.manager.run(self.newest, passes)
            self.newest = self.manager.run(self.newest, pipelines.lower(self.newest))
        if self.newest.stage in ("canonical", "transformed"):
            # an op without integers is refused before the work
            plan_quantization(with_rows(self.newest, self.quantizer.scales))
            self._draw()
        if self.shallower:
            self._leave_out()
        if self.newest.stage == "canonical":
            pipeline = self.quantizer.transform(self.newest, self._sample)
            self._reach(self.manager.run(self.newest, pipeline))
        if self.newest.stage == "transformed":
            plan = self._plan()
            self._reach(self.manager.run(self.newest, plan.float_passes(self._sample)))
            graph, self.chosen_bits = self.quantizer.run(
                self.newest, self._batches, self._sample, self.manager
            )
            self._reach(graph)
        if self.newest.stage == "simulated":
            self._reach(self.manager.run(self.newest, pipelines.TO_INTEGER))
        if self.newest.stage == "integer" and self.caches is not None:
            self._reach(self.manager.run(self.newest, self.caches.integer_passes))

    def outcomes(self) -> dict[str, Any]:
        """What a report says of choices: its fields of these names."""
        return {"chosen": self.chosen_bits, "depth": self.depth, "caches": self.cache_facts}

    def noise(self, watch: Pairs | None = None) -> dict[str, float]:
        """The SQNR in dB of every value of the integer graph, by name; empty without samples.

        It is against the user's model: no pass can hide what it changed. `watch` sees the outputs
        of both.
        """
        if not self._control:
            return {}
        model = self.graphs["canonical" if "canonical" in self.graphs else "transformed"]
        divided = divisors(self.manager.records)
        ratios = measure_sqnr(model, self.newest, [self._control], divided=divided, watch=watch)
        return {s.op.names[0]: s.decibels for s in ratios}

    def _plan(self) -> CachePlan:
        """How keys and values are stored, chosen on the sample where that is asked for."""
        head, outcomes = head_of(self.newest), tuple[Trial, ...]()
        if self.caches is None:
            self.caches, outcomes = choose_plan(self.newest, self._sample)
        if head and (outcomes or self.caches != PLANS[8]):
            others = tuple((str(t.plan), t.bits, t.divergence) for t in outcomes)
            self.cache_facts = Caches(str(self.caches), self.caches.bits(head), others)
        return self.caches

    def _leave_out(self) -> None:
        """Make the float graph less deep. Errors: PassError for a graph of a later stage."""
        if self.newest.stage not in ("canonical", "transformed"):
            raise PassError(
                f"skip, concurrency: graph @{self.newest.name} is at stage {self.newest.stage},"
                " a float graph is needed"
            )
        quantizer = self.quantizer
        planner = Planner(
            self.shallower, self._sample, quantizer.executor, quantizer.store, quantizer.tell
        )
        passes, self.depth = planner.run(self.newest)
        self.newest = self.manager.run(self.newest, passes)

    def _reach(self, graph: Graph) -> None:
        self.newest = self.graphs[graph.stage] = graph
        return_freed_memory()

    def _draw(self) -> None:
        """Set the first samples apart: some for passes, others to judge the result by."""
        if self._batches:
            self._sample, self._batches = first_samples(self.newest, self._batches)
            elements = sum(v.type.size for v in self.newest.outputs)
            most = max(1, min(SQNR_SAMPLES, COMPARED // max(1, elements)))
            self._sample, self._control = held_back(self.newest, self._sample, most)


def return_freed_memory() -> None:
    """To the system. glibc keeps what lies between arrays that are still used: of a language model
    more than a gigabyte, from activations that lay between its weights.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
