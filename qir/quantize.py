"""Quantization of a float graph: calibration, choice of bits, rounding of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.target import Target
from qir.ir.types import Array
from qir.measure.code_version import source
from qir.measure.latency import Latencies, measure_latency
from qir.passes import pipelines
from qir.passes.bits.choice import Bits, LayerChoices, load_bits
from qir.passes.bits.costs import LATENCY, LayerWork
from qir.passes.calibrate.observers import Observer
from qir.passes.calibrate.ranges import Ranges, calibrate
from qir.passes.infra.manager import Manager, Pass, Pipeline
from qir.passes.infra.tasks import Processes, Store, Tell
from qir.passes.mixed_precision import (
    BitPlan,
    MixedPrecision,
    choices_of,
    graph_rules,
    layer_works,
    plan_bits,
)
from qir.passes.quantize.place_rows import Scales, are_layers_by_rows, row_passes
from qir.passes.rounding import Rounding, method_of, rounding_passes
from qir.passes.rounding.base import RoundWeights
from qir.passes.sensitivity.measure import measure_sensitivities
from qir.passes.sensitivity.table import Sensitivities
from qir.passes.transform.outliers.methods import Outliers
from qir.report.chosen_bits import ChosenBits, FrontPoint, LayerBits, Measured

LayerBitsRequest = Bits | str | tuple[int, int]
BitsRequest = LayerBitsRequest | int | Path | Mapping[str, LayerBitsRequest] | MixedPrecision


@dataclass(frozen=True)
class Quantizer:
    """The options of a quantization; `folder` is for intermediate results."""

    bits: BitsRequest
    observer: str | Observer | None
    rounding: Rounding | None
    machine: Target
    folder: Path | None
    executor: Executor | None
    tell: Tell
    scales: Scales = Scales.AUTO
    outliers: Outliers | None = Outliers.AUTO

    def __post_init__(self) -> None:
        """Errors: PassError or ParseError for bits or a rounding that are none, before any work."""
        if not isinstance(self.bits, MixedPrecision):
            widths_of(self.bits)
        if self.rounding is not None:
            method_of(self.rounding)

    @property
    def store(self) -> Store:
        return Store(self.folder, source("qir.ir", "qir.passes"))

    def transform(self, graph: Graph, sample: tuple[Array, ...]) -> Pipeline:
        """The float passes before calibration, for these widths."""
        is_mixed = isinstance(self.bits, MixedPrecision)
        widths = pipelines.EIGHT if is_mixed else widths_of(self.bits)[0]
        is_static = not are_layers_by_rows(graph, self.scales)
        return pipelines.transform(
            graph, sample, self.outliers, widths.weight, is_static, widths.activation
        )

    def run(
        self,
        graph: Graph,
        batches: Iterable[Any] | None,
        sample: tuple[Array, ...],
        manager: Manager,
    ) -> tuple[Graph, ChosenBits | None]:
        """The simulated graph, and the assignment of bits in mixed precision."""
        ranges = None if batches is None else self._ranges(graph, batches)
        with nullcontext(self.executor) if self.executor is not None else Processes() as pool:
            on_pool = replace(self, executor=pool)
            default, layers, assignment = on_pool._bits(graph, ranges, sample)
            rounding = on_pool._rounding(graph, sample)
            rows = row_passes(graph, self.scales, default, layers)
            reference = None if are_layers_by_rows(graph, self.scales) else graph
            pairs = pipelines.quantize(ranges, default, layers, reference, sample, rounding, rows)
            return manager.run(graph, pairs), assignment

    def _bits(
        self, graph: Graph, ranges: Ranges | None, sample: tuple[Array, ...]
    ) -> tuple[Bits, Mapping[str, Bits], ChosenBits | None]:
        """The default bits, those of single layers, and the assignment in mixed precision."""
        if not isinstance(self.bits, MixedPrecision):
            return *widths_of(self.bits), None
        if ranges is None:
            raise PassError("mixed precision: no calibration data, samples are needed")
        assignment, layers = self._choose(graph, ranges, sample, self.bits)
        return pipelines.EIGHT, layers, assignment

    def _ranges(self, graph: Graph, batches: Iterable[Any]) -> Ranges:
        file = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / "calibration"
        progress = partial(self._progress, "calibration")
        # Of wide values and caches nothing is to be clipped; 8 bits of a layer's input gain by it.
        usual = "min-max" if are_layers_by_rows(graph, self.scales) else "mse"
        return calibrate(graph, batches, self.observer or usual, file, progress)

    def _progress(self, step: str, samples: int) -> None:
        self.tell(step, samples, 0)

    def _rounding(self, graph: Graph, sample: tuple[Array, ...]) -> Sequence[Pass]:
        if self.rounding is None:
            return ()
        methods = [m for m in method_of(self.rounding) if isinstance(m, RoundWeights)]
        if methods and not sample:
            names = ", ".join(method.name for method in methods)
            raise PassError(f"rounding {names}: no calibration data, samples are needed")
        return rounding_passes(self.rounding, graph, sample, self.executor, self.store, self.tell)

    def _choose(
        self, graph: Graph, ranges: Ranges, sample: tuple[Array, ...], request: MixedPrecision
    ) -> tuple[ChosenBits, Mapping[str, Bits]]:
        rules = graph_rules(graph, request)
        choices = {name: choices_of(name, request, rules) for name in layer_works(graph)}
        every = sorted({bits for each in choices.values() for bits in each})
        sensitivities = measure_sensitivities(
            graph, ranges, sample, every, request.loss, request.effort,
            executor=self.executor, store=self.store, tell=self.tell,
        )  # fmt: skip
        latencies, rest = None, 0.0
        if request.needs_latency:
            timed = self._latencies(graph, ranges, every)
            latencies, rest = timed.layers, timed.rest
        plan = plan_bits(graph, request, sensitivities.losses(request.measure), latencies, rest)
        assignment = chosen_bits(plan, request, sensitivities, layer_works(graph))
        return assignment, plan.best.bits

    def _latencies(self, graph: Graph, ranges: Ranges, every: Sequence[Bits]) -> Latencies:
        """The time of each layer at each width, all layers of one width at a time."""
        layers, graphs, manager = layer_works(graph), {}, Manager()
        for bits in every:
            rows = row_passes(graph, self.scales, bits)
            uniform = pipelines.quantize(ranges, bits, dict.fromkeys(layers, bits), rows=rows)
            graphs[bits] = manager.run(manager.run(graph, uniform), pipelines.TO_INTEGER)
        return measure_latency(graphs, layers, self.machine, tell=self.tell)


def widths_of(bits: Any) -> tuple[Bits, Mapping[str, Bits]]:
    """The bits of all layers, and of single ones that differ.

    bits: as compile takes them: 8, (4, 8), Bits, "w4g32a8", the path of a choice, or a mapping.
    Errors: PassError or ParseError for bits that are none.
    """
    match bits:
        case Bits():
            return bits, {}
        case int() if not isinstance(bits, bool):
            return Bits(bits, bits), {}
        case Mapping():
            return pipelines.EIGHT, {n: _layer_bits_of(n, b) for n, b in bits.items()}
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


def _layer_bits_of(layer: Any, bits: Any) -> Bits:
    """The bits of one layer in a mapping: Bits, a text like w4a8, or (4, 8)."""
    match layer, bits:
        case str(), Bits():
            return bits
        case str(), str():
            return Bits.parse(bits)
        case str(), (int(), int()):
            return Bits(*bits)
    raise PassError(
        f"bits: {layer!r}: {bits!r} given, a layer's name and a text like w4a8 are needed"
    )


def chosen_bits(
    plan: BitPlan,
    request: MixedPrecision,
    sensitivities: Sensitivities,
    layer_works: Mapping[str, LayerWork],
) -> ChosenBits:
    """The assignment as a report stores it."""
    narrowest = min(choice.bits for layer in plan.layers for choice in layer.choices)
    agreement = sensitivities.agreement(narrowest) if len(plan.layers) > 2 else {}
    pairs = combinations(agreement, 2)
    return ChosenBits(
        request=str(request),
        measure=request.measure,
        layers=tuple(
            _layer_bits(
                layer, plan.best.bits[layer.name], sensitivities.values[layer.name], layer_works
            )
            for layer in plan.layers
        ),
        used=_measured(plan.best.costs),
        limits=_measured(plan.limits),
        swept=plan.swept,
        loss=plan.best.loss,
        front=tuple(FrontPoint(a.costs[plan.swept], a.loss) for a in plan.front),
        agreement=_measured(
            {f"{a}, {b}": r for a, b in pairs if math.isfinite(r := agreement[a][b])}
        ),
    )


def _layer_bits(
    layer: LayerChoices, bits: Bits, measures: Mapping[str, float], works: Mapping[str, LayerWork]
) -> LayerBits:
    times = {str(c.bits): c.costs[LATENCY] for c in layer.choices if LATENCY in c.costs}
    return LayerBits(
        layer.name,
        str(bits),
        works[layer.name].parameters,
        losses=_measured({str(c.bits): c.loss for c in layer.choices}),
        micros=_measured(times),
        measures=_measured(measures),
    )


def _measured(numbers: Mapping[str, float]) -> tuple[Measured, ...]:
    return tuple(Measured(of, float(value)) for of, value in numbers.items())
