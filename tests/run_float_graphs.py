"""Runs random float graphs through every pass, and checks what each pass claims.

python -m tests.run_float_graphs --graphs 1000 [--start 0]

Two graphs of each seed: one as frontends write them, and a network. Both are canonicalized twice;
then transformed, calibrated, quantized and lowered to integers, at widths that go with the seed.
After every stage the graph is written as text and read again. A refusal is no fault when it is an
error of ours; refusals are counted by their reason.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from qir.ir.errors import QirError
from qir.ir.graph import Graph
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.ops import Quantize, Requantize
from qir.ir.ops.kinds import Layer
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.torch_executor import run_op
from qir.ir.types import Array, Quant
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate, run_of
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE, TO_INTEGER, quantize, transform
from qir.passes.transform.channel_ranges import first_samples
from tests.passes.float_graphs import FloatGraphs
from tests.passes.random_floats import all_samples, wide_net

WIDTHS = (Bits(8, 8), Bits(8, 8), Bits(4, 8), Bits(8, 4), Bits(4, 4), Bits(2, 8))
SAMPLES = 12
RUNS = 3  # of those samples, that are compared
FLOAT_ROUNDING = 2.0**-22  # of a sum: some units in the last place of its summands
VARYING = r"%[\w.]+|@[\w.]+|-?[0-9][0-9.e+-]*"  # names and numbers


@dataclass
class Result:
    """The faults of some graphs, and why others were refused."""

    faults: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)  # the graph first refused for a reason
    stages: Counter[str] = field(default_factory=Counter)
    compared: int = 0  # stored values

    def reached(self, graph: Graph) -> None:
        """Count the stage, and look at the graph as text."""
        self.stages[graph.stage] += 1
        if parse(text(graph), blobs(graph)) != graph:
            self.faults.append(f"{graph.name}: its text at stage {graph.stage} is another graph")


def graphs_of(seed: int) -> Iterator[tuple[str, Graph]]:
    yield f"{seed} imported", FloatGraphs(seed).graph(3 + seed % 14)
    yield f"{seed} network", wide_net(seed)


def canonical(name: str, graph: Graph, result: Result) -> Graph | None:
    """The canonical graph, the same in a second run; None for one that breaks a claim."""
    try:
        after = Manager(check=True).run(graph, CANONICALIZE)
    except QirError as e:
        result.faults.append(f"{name}: {e.text}")
        return None
    manager = Manager()
    if manager.run(after, CANONICALIZE) != after or any(r.rewrites for r in manager.records):
        result.faults.append(f"{name}: canonicalize has something left to do")
    return after


def steps_off(simulated: Graph, integer: Graph, given: tuple[Array, ...], result: Result) -> str:
    """The stored value that is more than a step, the rounding of its bias and that of float32, off
    what the simulation computes of the integer graph's own values before it; empty when there is
    none.
    """
    entered = quantize_inputs(integer, given)
    types = {v.name: v.type.elem for v in integer.values}
    stored = dict(zip((v.name for v in integer.inputs), entered, strict=True))
    interpret(integer, entered, lambda value, array: stored.update({value.name: array}))
    env = dict(zip((v.name for v in simulated.inputs), given, strict=True))
    for op in simulated.ops:
        y = run_op(op, [env[v.name] for v in op.operands])
        if isinstance(op, Quantize):
            names = [n for n in (op.names[0], op.x.name) if types.get(n) == op.to]
            if names:
                own = stored[names[0]].astype(y.dtype)
                off = np.abs(own.astype(np.int64) - y).max(initial=0)
                source = simulated.producers.get(op.x.name)
                reals = [env[v.name] for v in source.operands] if source else []
                if off > 1 + bias_steps(integer, names[0]) + float_steps(reals, op.to):
                    return f"{op} is {off} steps off"
                y = own
                result.compared += 1
        env[op.names[0]] = y
    return ""


def bias_steps(integer: Graph, name: str) -> float:
    """Half a step of the accumulators that a value is made of, in which their biases are rounded,
    in steps of the value.
    """
    op = integer.producers.get(name)
    if not isinstance(op, Requantize):
        return 0.0
    layers = (integer.producers.get(x.name) for x in op.xs)
    halves = [
        float(layer.result.type.quant.scale.array.max() / op.to.scale.array.min()) / 2
        for layer in layers
        if isinstance(layer, Layer) and layer.bias is not None
    ]
    return sum(halves)


def float_steps(reals: Sequence[Array], to: Quant) -> float:
    """What float32 loses of a sum of these values, in steps. It counts where large values cancel,
    as in x - mean(x) of equal elements: the range of the result is that of the rounding errors.
    """
    largest = sum(float(np.abs(x).max(initial=0)) for x in reals)
    return FLOAT_ROUNDING * largest / float(to.scale.array.min())


def to_integers(name: str, graph: Graph, bits: Bits, result: Result) -> None:
    """From canonical to integers, with every claim checked."""
    try:
        x = all_samples(graph, SAMPLES)
        manager = Manager(check=True)
        sample, batches = first_samples(graph, [x])
        after = manager.run(graph, transform(graph, sample))
        result.reached(after)
        ranges = calibrate(after, batches, "min-max")
        simulated = manager.run(after, quantize(ranges, bits, None, after, sample))
        result.reached(simulated)
        integer = manager.run(simulated, TO_INTEGER)
        result.reached(integer)
    except QirError as e:
        if "is claimed" in e.text or "on record" in e.text:
            result.faults.append(f"{name}: {e.text}")
        else:
            result.refusals[reason(e)] += 1
            result.first.setdefault(reason(e), name)
        return
    for i in range(RUNS):
        if fault := steps_off(simulated, integer, run_of(simulated, x, i), result):
            result.faults.append(f"{name}: {fault}")
            return


def reason(error: QirError) -> str:
    """The class and the text of an error, names and numbers left out."""
    last = re.sub(VARYING, "_", error.text.splitlines()[-1].strip())
    return f"{type(error).__name__}: {last[:90]}"


def check(seeds: range, result: Result | None = None) -> Result:
    result = Result() if result is None else result
    for seed in seeds:
        for name, graph in graphs_of(seed):
            try:
                result.reached(graph)
                after = canonical(name, graph, result)
                if after is not None:
                    result.reached(after)
                    to_integers(name, after, WIDTHS[seed % len(WIDTHS)], result)
            except Exception as e:
                result.faults.append(f"{name}: {type(e).__name__}: {e}")
    return result


def main() -> int:
    """Exit status 0 when there is no fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--graphs", type=int, default=40)
    parser.add_argument("--start", type=int, default=0)
    options = parser.parse_args()
    begin, result, told, graphs = time.time(), Result(), 0, 0
    for seed in range(options.start, options.start + options.graphs // 2):
        check(range(seed, seed + 1), result)
        graphs += 2
        for fault in result.faults[told:]:
            print(fault, flush=True)
        told = len(result.faults)
    print(f"{graphs} graphs, {told} faults, {time.time() - begin:.0f} s")
    print(f"{result.compared} stored values against the simulation")
    print(", ".join(f"{stage} {count}" for stage, count in result.stages.items()))
    for why, count in result.refusals.most_common():
        print(f"refused {count}: {why} ({result.first[why]})")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
