"""What few bits of activations cost: python -m tests.bench.row_formats stories260k --rows 12

Language models, simulated as `compile` quantizes them: rows of activations in few bits, in blocks
that share an exponent, or with static scales, with outliers left as they are and treated. A name
with x40 behind it is the same model with outliers of 40 in every tie class. Of each form: nats a
token more than the float model, and the KL divergence in thousandths of a nat. smollm2 needs
--folder, with the model in the form of Hugging Face and tokens.npy (S, N).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from qir.arguments import outliers_of
from qir.ir.graph import Graph
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes import pipelines
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.quantize.place_rows import Scales, row_passes
from qir.passes.transform.outliers.inject_outliers import InjectOutliers
from qir.passes.transform.outliers.methods import Outliers
from tests.accuracy.language import compared
from tests.bench.decoders import evaluated
from tests.bench.models import zoo_module

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
BITS = ("w8a8", "w8a8b4", "w6a6", "w6a6b4", "w4g32a8", "w4g32a4", "w4g32a4b4")
INJECTED = "x40"
STATIC = "static"  # behind the bits: scales from calibration


def simulated(graph: Graph, sample: Array, form: str, how: Outliers | None) -> Graph:
    """The graph as `compile` would simulate it before integers."""
    text, _, scales = form.partition(" ")
    bits, manager = Bits.parse(text), Manager()
    ways = Scales.STATIC if scales == STATIC else Scales.AUTO
    is_static = ways is Scales.STATIC
    kinder = pipelines.transform(graph, (sample,), how, bits.weight, is_static)
    graph = manager.run(graph, kinder)
    ranges = calibrate(graph, [sample], "mse" if is_static else "min-max")
    rows = row_passes(graph, ways, bits)
    return manager.run(graph, pipelines.quantize(ranges, bits, rows=rows))


def measured(
    graph: Graph, sample: Array, tokens: Array, forms: Sequence[str], ways: Sequence[str]
) -> Iterator[str]:
    """A line for each form and treatment of outliers."""
    program = FloatProgram(graph)
    reals = [program(row[None])[0][0].detach().numpy() for row in tokens]
    for form in forms:
        for way in ways:
            how = outliers_of(None if way == "none" else way)
            tried = FloatProgram(simulated(graph, sample, form, how))
            found = np.zeros(4)
            for row, real in zip(tokens, reals, strict=True):
                found += compared(real, tried(row[None])[0][0].detach().numpy(), row) / len(tokens)
            yield (
                f"{form:16} {way:12} {found[1] - found[0]:+.4f} nats, {1000 * found[2]:.1f} mnat,"
                f" same token {100 * found[3]:.1f} %"
            )


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench.row_formats")
    p.add_argument("names", nargs="+")
    p.add_argument("--rows", type=int, default=12, help="of tokens to measure on")
    p.add_argument("--calibration", type=int, default=64, help="rows")
    p.add_argument("--bits", default=",".join(BITS), help="forms, as in 'w6a6,w8a8 static'")
    p.add_argument("--outliers", default="none,auto", help="treatments")
    p.add_argument("--folder", type=Path, default=Path())
    given = p.parse_args()
    for name in given.names:
        plain = name.removesuffix(INJECTED)
        graph, tokens = evaluated(plain, given.rows, given.folder)
        if plain == "smollm2":
            sample = np.load(given.folder / "tokens.npy")[: given.calibration]
        else:
            sample = zoo_module().ZOO[plain].calibration()[: given.calibration]
        if name.endswith(INJECTED):
            graph = Manager().run(graph, [InjectOutliers(everywhere=True)])
        console.print(f"{name}: {tokens.size:,} tokens, calibrated with {sample.size:,}")
        forms, ways = given.bits.split(","), given.outliers.split(",")
        for line in measured(graph, sample, tokens, forms, ways):
            console.print(f"  {line}")


if __name__ == "__main__":
    main()
