"""Bits by every measure at the same average: python -m tests.bench.mixed_precision resnet20

The weights of all layers get 2 to 8 bits so that the average over all weights is at most --average
(activations 8 bits, no ties, ends free); the integer program gives them exactly, the closed form
without a solver. Each network is rounded to nearest with its biases corrected, and its simulated
graph runs on all evaluation inputs. Sensitivities come from calibration inputs alone, no labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from qir.ir.graph import Graph
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.measure.code_version import source
from qir.models import imported
from qir.passes import pipelines
from qir.passes.bits.assign import assign
from qir.passes.bits.choice import Bits
from qir.passes.bits.closed_form import allocate_bits
from qir.passes.bits.costs import average_limits, measured_layer
from qir.passes.calibrate.ranges import Ranges, calibrate
from qir.passes.infra.manager import Manager
from qir.passes.infra.rebatch import rebatch
from qir.passes.infra.tasks import Store
from qir.passes.mixed_precision import layer_works
from qir.passes.sensitivity.measure import Effort, measure_sensitivities
from qir.passes.sensitivity.table import Sensitivities
from qir.passes.transform.channel_ranges import first_samples
from tests.bench.models import CACHE, zoo_module

WIDTHS = (2, 3, 4, 5, 6, 8)
CHOICES = tuple(Bits(w, 8) for w in WIDTHS)
AT_ONCE = 50  # images
Chosen = Mapping[str, Bits]


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench.mixed_precision", description=__doc__)
    p.add_argument("names", nargs="+")
    p.add_argument("--average", type=float, action="append", help="bits a weight (3, 4, 5)")
    p.add_argument("--measure", action="append", help="of those that rank layers; all by default")
    p.add_argument("--samples", type=int, default=128)
    args = p.parse_args()
    for name in args.names:
        network = Network(name, args.samples)
        averages = args.average or [3.0, 4.0, 5.0]
        table = Table("measure", *(f"{b:g} bits" for b in averages), title=name)
        for measure in args.measure or network.measures:
            scores = [network.scored(measure, b) for b in averages]
            table.add_row(measure, *("-" if s is None else f"{s:.2f}" for s in scores))
            print(name, measure, scores, flush=True)
        Console(width=120).print(table)


UNIFORM, CLOSED = "uniform", "closed form of hessian"


class Network:
    """A model of the zoo made ready to be quantized, and its sensitivities."""

    def __init__(self, name: str, samples: int) -> None:
        self.case = zoo_module().ZOO[name]
        self.manager = Manager()
        graph = self.manager.run(imported(self.case.model, batch=1), pipelines.CANONICALIZE)
        self.sample, batches = first_samples(graph, [self.case.calibration()])
        self.graph = self.manager.run(graph, pipelines.transform(graph, self.sample))
        self.ranges: Ranges = calibrate(self.graph, batches, "mse")
        self.works = layer_works(self.graph)
        self.found: Sensitivities = measure_sensitivities(
            self.graph, self.ranges, self.sample, CHOICES, effort=Effort(samples=samples),
            store=Store(CACHE / "sensitivity", source("qir.ir", "qir.passes")),
        )  # fmt: skip
        self.known: dict[tuple[Bits, ...], float] = {}

    @property
    def measures(self) -> tuple[str, ...]:
        scores = next(iter(self.found.values.values()))
        return (UNIFORM, CLOSED, *self.found.by_bits, *scores)

    def scored(self, measure: str, average: float) -> float | None:
        """The accuracy of the bits that a measure gives; None where it gives none."""
        chosen = self.bits_by(measure, average)
        if chosen is None:
            return None
        key = tuple(chosen[name] for name in self.works)
        if key not in self.known:
            pairs = pipelines.quantize(
                self.ranges, layers=chosen, reference=self.graph, sample=self.sample
            )
            self.known[key] = self.accuracy(self.manager.run(self.graph, pairs))
        return self.known[key]

    def bits_by(self, measure: str, average: float) -> Chosen | None:
        if measure == UNIFORM:
            if average not in WIDTHS:
                return None
            return dict.fromkeys(self.works, Bits(int(average), 8))
        if measure == CLOSED:
            losses = {n: row[Bits(4, 8)] for n, row in self.found.losses("hessian").items()}
            sizes = {n: work.parameters for n, work in self.works.items()}
            widths = allocate_bits(losses, WIDTHS, average, sizes)
            return {n: Bits(w, 8) for n, w in widths.items()}
        layers = [
            measured_layer(name, losses, self.works[name]) for name, losses in self._losses(measure)
        ]
        return assign(layers, average_limits(self.works.values(), weight=average)).bits

    def _losses(self, measure: str) -> Iterator[tuple[str, Mapping[Bits, float]]]:
        """Those measured; for a score of layers whatever their bits, its rank * 4**-bits."""
        if measure in self.found.by_bits:
            yield from self.found.losses(measure).items()
            return
        column = self.found.columns(CHOICES[0])[measure]
        for rank, name in enumerate(sorted(column, key=column.__getitem__), 1):
            yield name, {bits: rank * 4.0**-bits.weight for bits in CHOICES}

    def accuracy(self, simulated: Graph) -> float:
        """On all evaluation inputs."""
        x: Array = self.case.inputs()
        larger = rebatch(simulated, AT_ONCE)
        assert isinstance(larger, Graph)
        program = FloatProgram(larger)
        with torch.no_grad():
            ys = [program(x[i : i + AT_ONCE])[0].numpy() for i in range(0, len(x), AT_ONCE)]
        return float(self.case.score(np.concatenate(ys)))


if __name__ == "__main__":
    main()
