"""From a float graph to a simulated one: calibration, the choice of bits, rounding of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qir.chosen_bits import ChosenBits, FrontPoint, LayerBits, Measured
from qir.ir.errors import DataError, PassError
from qir.ir.graph import Graph
from qir.ir.target import Target
from qir.ir.types import Array
from qir.passes import pipelines
from qir.passes.bit_choice import Bits, load_bits
from qir.passes.calibrate import Ranges, calibrate
from qir.passes.manager import Manager, Pass
from qir.passes.mixed_precision import (
    BitPlan,
    MixedPrecision,
    choices_of,
    graph_rules,
    layer_works,
    plan_bits,
)
from qir.passes.observers import Observer
from qir.passes.work import Store, Tell

BitsAsked = int | tuple[int, int] | Bits | str | Path | Mapping[str, Bits | str] | MixedPrecision


@dataclass(frozen=True)
class Quantizing:
    """How a float graph is quantized; `folder` is where interrupted work goes on."""

    bits: BitsAsked
    observer: str | Observer
    rounding: str | None
    machine: Target
    folder: Path | None
    executor: Executor | None
    tell: Tell

    def __post_init__(self) -> None:
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"state {self.folder}: not a folder, a folder or a free path is needed")

    @property
    def store(self) -> Store:
        return Store(self.folder)

    def run(
        self,
        graph: Graph,
        batches: Iterable[Any] | None,
        sample: tuple[Array, ...],
        manager: Manager,
    ) -> tuple[Graph, ChosenBits | None]:
        """The simulated graph, and how its bits were chosen where they were."""
        ranges, chosen = None, None
        default, layers = (pipelines.EIGHT, {}) if self._is_mixed else widths_of(self.bits)
        if batches is not None:
            ranges = self._ranges(graph, batches)
        if isinstance(self.bits, MixedPrecision):
            if ranges is None:
                raise PassError("mixed precision: no calibration data, samples are needed")
            chosen, layers = self._choose(graph, ranges, sample, self.bits)
        rounding = self._rounding(graph, sample)
        pairs = pipelines.quantize(ranges, default, layers, graph, sample, rounding)
        return manager.run(graph, pairs), chosen

    @property
    def _is_mixed(self) -> bool:
        return isinstance(self.bits, MixedPrecision)

    def _ranges(self, graph: Graph, batches: Iterable[Any]) -> Ranges:
        file = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / "calibration"
        done = lambda samples: self.tell("calibration", samples, 0)  # noqa: E731
        return calibrate(graph, batches, self.observer, file, done)

    def _rounding(self, graph: Graph, sample: tuple[Array, ...]) -> Sequence[Pass]:
        if self.rounding is None:
            return ()
        if not sample:
            raise PassError(f"rounding {self.rounding}: no calibration data, samples are needed")
        from qir.passes.rounding import rounding_passes

        return rounding_passes(self.rounding, graph, sample, self.executor, self.store, self.tell)

    def _choose(
        self, graph: Graph, ranges: Ranges, sample: tuple[Array, ...], request: MixedPrecision
    ) -> tuple[ChosenBits, Mapping[str, Bits]]:
        from qir.passes.sensitivity import measure_sensitivity

        rules = graph_rules(graph, request)
        choices = {name: choices_of(name, request, rules) for name in layer_works(graph)}
        found = measure_sensitivity(
            graph, sample, choices, ranges, request.measures, self.executor, self.store, self.tell
        )
        latencies, rest = None, 0.0
        if request.needs_latency:
            timed = self._latencies(graph, ranges, choices)
            latencies, rest = timed.layers, timed.rest
        plan = plan_bits(graph, request, found.losses(request.measure), latencies, rest)
        return chosen_bits(plan, request, found), plan.best.bits

    def _latencies(
        self, graph: Graph, ranges: Ranges, choices: Mapping[str, Sequence[Bits]]
    ) -> Any:
        from qir.latency import measure_latency  # only where asked for: it builds kernels

        manager, graphs = Manager(), {}
        for bits in sorted({b for each in choices.values() for b in each}):
            simulated = manager.run(
                graph, pipelines.quantize(ranges, bits, layers=dict.fromkeys(choices, bits))
            )
            graphs[bits] = manager.run(simulated, pipelines.TO_INTEGER)
        return measure_latency(graphs, choices, self.machine, tell=self.tell)


def widths_of(bits: Any) -> tuple[Bits, Mapping[str, Bits]]:
    """The bits of all layers, and of single ones that differ.

    bits: as compile takes them: 8, (4, 8), Bits, "w4g32a8", the path of a choice, or a mapping.
    Errors: PassError or ParseError for bits that are none.
    """
    match bits:
        case Bits():
            return bits, {}
        case int():
            return Bits(bits, bits), {}
        case Mapping():
            return pipelines.EIGHT, {n: _bits(b) for n, b in bits.items()}
        case Path():
            return pipelines.EIGHT, load_bits(bits)
        case str():
            is_file = Path(bits).suffix == ".toml" or Path(bits).exists()
            return widths_of(Path(bits)) if is_file else (Bits.parse(bits), {})
        case (int(), int()):
            return Bits(*bits), {}
    raise PassError(
        f"bits: {bits!r} given, as in 8, (4, 8), 'w4g32a8' or a choice's file is needed"
    )


def _bits(given: Bits | str) -> Bits:
    return Bits.parse(given) if isinstance(given, str) else given


def chosen_bits(plan: BitPlan, request: MixedPrecision, found: Any) -> ChosenBits:
    """The choice as a report keeps it."""
    works = {name: found.scores(name) for name in plan.best.bits}
    return ChosenBits(
        request=str(request),
        measure=request.measure,
        layers=tuple(
            LayerBits(
                layer=layer.name,
                bits=str(plan.best.bits[layer.name]),
                parameters=found.parameters[layer.name],
                losses=tuple(Measured(str(c.bits), c.loss) for c in layer.choices),
                micros=tuple(
                    Measured(str(c.bits), c.costs["latency_us"])
                    for c in layer.choices
                    if "latency_us" in c.costs
                ),
                measures=tuple(Measured(*one) for one in works[layer.name].items()),
            )
            for layer in plan.layers
        ),
        used=tuple(Measured(*one) for one in sorted(plan.best.costs.items())),
        limits=tuple(Measured(*one) for one in sorted(plan.limits.items())),
        swept=plan.swept,
        loss=plan.best.loss,
        front=tuple(FrontPoint(a.costs[plan.swept], a.loss) for a in plan.front),
        agreement=tuple(Measured(f"{a}, {b}", r) for (a, b), r in found.agreement().items()),
    )
