"""Instructions per inference, exact, by QEMU: python -m tests.bench.instructions --kernels resnet8

    --target NAME  a target that QEMU's user mode runs; more than once for several
    --model NAME   the same as NAME alone: a model of the zoo
    --kernels      one line for each kernel
    --markdown     the table of docs/performance.md

Each model is compiled for the target and run on one input under a plugin of QEMU (count.c) that
counts how often every instruction runs; reading the input and writing the output are left out. Of
Hexagon, packets are counted, and the instructions in them without the constant extenders; memory
functions that kernels call (memset, memcpy) are lines of their own. `of ideal` is MACs over what
the best dot instruction of the machine would do in as many instructions: 100 % is a kernel of dot
instructions only. Integer graphs are kept in .bench/; kernels are compiled anew each time.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from rich.console import Console
from rich.table import Table

from qir.backends import build, find
from qir.backends.artifact.artifact import Artifact
from qir.backends.c.entry import symbol
from qir.backends.proofs.disassembly import Function, Instruction
from qir.backends.proofs.instructions import SETS, InstructionSet
from qir.backends.proofs.machine_code import dot_of
from qir.ir.graph import Graph
from qir.ir.interpret import quantize_inputs
from qir.ir.target import Target
from tests.bench.emulated import counted
from tests.bench.models import integer_graph, names, zoo_module

MODELS = ("resnet8", "dscnn", "vww", "autoencoder", "resnet20", "mobilenetv2")
TARGETS = ("aarch64", "aarch64-dotprod", "aarch64-i8mm", "hexagon-v68")
LONG = 64
"""Products in each sum from which a layer's kernel should be close to the dot's ideal."""

IDEALS = (
    ("i8mm", 32), ("dotprod", 16), ("hvx-length128b", 128), ("mve", 16), ("neon", 16 / 3),
    ("dsp", 2),
)  # fmt: skip
"""Products that the best dot instruction adds, on a machine with this trait; the first counts.

Plain NEON takes three instructions for 16: smull, smlal2, sadalp.
"""

console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


@dataclass(frozen=True)
class Count:
    """What one function executed in one inference; `depth`: products in each of its sums."""

    name: str
    title: str
    macs: int
    depth: int
    instructions: int
    packets: int
    dots: Counter[str]

    @property
    def dot_share(self) -> float:
        """Dot instructions among all."""
        return self.dots.total() / max(self.instructions, 1)

    def of_ideal(self, ideal: float) -> float:
        """MACs over what as many dot instructions would do."""
        return self.macs / max(self.instructions, 1) / ideal


@dataclass(frozen=True)
class Inference:
    """All functions that ran, most instructions first, and the MACs of the target's best dot."""

    model: str
    target: Target
    counts: tuple[Count, ...]
    ideal: float

    def total(self, chosen: Iterable[Count] | None = None) -> Count:
        counts = self.counts if chosen is None else tuple(chosen)
        return Count(
            "all", "", sum(c.macs for c in counts), 0, sum(c.instructions for c in counts),
            sum(c.packets for c in counts), sum((c.dots for c in counts), Counter()),
        )  # fmt: skip

    @property
    def contractions(self) -> Count:
        return self.total(c for c in self.counts if c.macs)

    @property
    def long(self) -> Count:
        """Contractions with at least LONG products in each sum."""
        return self.total(c for c in self.counts if c.depth >= LONG)


def main() -> None:
    args = _arguments()
    targets = args.target or (TARGETS if args.markdown else ("aarch64-dotprod",))
    pairs = [(m, t) for m in names([*args.models, *args.model] or list(MODELS)) for t in targets]
    runs = (measured(model, find(target)) for model, target in pairs)
    if args.markdown:
        for line in markdown(runs):
            print(line, flush=True)
        return
    rows = []
    for run in runs:
        rows.append(run)
        if args.kernels:
            console.print(kernel_table(run))
    console.print(model_table(rows))


def _arguments() -> argparse.Namespace:
    about = (__doc__ or "").splitlines()[0]
    p = argparse.ArgumentParser(prog="python -m tests.bench.instructions", description=about)
    p.add_argument("models", nargs="*", help=f"of the zoo; {', '.join(MODELS)} without a name")
    p.add_argument("--model", action="append", default=[], help="the same")
    p.add_argument("--target", action="append")
    p.add_argument("--kernels", action="store_true", help="one line for each kernel")
    p.add_argument("--markdown", action="store_true", help="the table of docs/performance.md")
    return p.parse_args()


def measured(model: str, target: Target) -> Inference:
    """One inference of a model of the zoo on its first input."""
    graph = integer_graph(model)
    sample = zoo_module().ZOO[model].inputs()[:1]
    return count(build(graph, target, model), graph, quantize_inputs(graph, [sample]))


def count(artifact: Artifact, graph: Graph, inputs: list[np.ndarray]) -> Inference:
    """What one run of an artifact on stored inputs executes, by function."""
    code, runs = counted(artifact, [inputs])
    known = dict(_steps(artifact, graph))
    kinds = SETS[artifact.target.architecture]
    counts = []
    for function in code:
        if function.name in ("qir_main", "_start"):
            continue
        title, macs, depth = known.get(function.name, ("", 0, 0))
        executed = [(i, runs.get(i.packet, 0)) for i in function.instructions]
        counts.append(Count(
            function.name, title, macs, depth, sum(n for _, n in executed),
            _packets(function, runs), _dots(executed, kinds),
        ))  # fmt: skip
    counts = sorted((c for c in counts if c.instructions), key=lambda c: -c.instructions)
    return Inference(artifact.name, artifact.target, tuple(counts), _ideal(artifact.target))


def _steps(artifact: Artifact, graph: Graph) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """For each kernel's symbol: its title, all MACs of its calls, products in each sum."""
    shapes = {v.name: v.type.shape for op in graph.ops for v in op.results}
    program = artifact.program
    for name in {s.symbol for s in program.steps}:
        calls = [s for s in program.steps if s.symbol == name]
        shape = next((shapes[o] for o in calls[0].ops if o in shapes), ())
        depth = calls[0].macs // max(prod(shape), 1)
        yield symbol(program, name), (calls[0].title, sum(s.macs for s in calls), depth)


def _packets(function: Function, runs: dict[int, int]) -> int:
    return sum(runs.get(at, 0) for at in {i.packet for i in function.instructions})


def _dots(executed: Iterable[tuple[Instruction, int]], kinds: InstructionSet) -> Counter[str]:
    found: Counter[str] = Counter()
    for instruction, times in executed:
        if times and (name := dot_of(instruction, kinds)):
            found[name] += times
    return found


def _ideal(target: Target) -> float:
    return next((macs for trait, macs in IDEALS if trait in target.traits), 1)


def kernel_table(found: Inference) -> Table:
    """One line for each function that ran."""
    table = Table(title=f"{found.model} on {found.target}: one inference")
    heads = ("K", "MACs", "instructions", "packets", "MACs/instr", "of ideal", "dots", "which")
    table.add_column("function", no_wrap=True)
    table.add_column("step", no_wrap=True, max_width=48)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    is_step = re.compile(r"step_\d+|.*_run").fullmatch
    calls = replace(found.total(c for c in found.counts if is_step(c.name)), name="entry")
    for c in (*(c for c in found.counts if not is_step(c.name)), calls, found.total()):
        table.add_row(c.name, c.title, str(c.depth or "-"), *_cells(found, c), _which(c))
    return table


def _which(c: Count) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in c.dots.most_common(3))


def _cells(found: Inference, c: Count) -> tuple[str, ...]:
    if not c.macs:
        return "-", f"{c.instructions:,}", f"{c.packets:,}", "-", "-", "-"
    return (
        f"{c.macs:,}", f"{c.instructions:,}", f"{c.packets:,}",
        f"{c.macs / max(c.instructions, 1):.2f}", f"{c.of_ideal(found.ideal):.0%}",
        f"{c.dot_share:.0%}",
    )  # fmt: skip


def model_table(found: Sequence[Inference]) -> Table:
    """One line for each model and target."""
    table = Table(title="instructions of one inference")
    table.add_column("model")
    table.add_column("target", no_wrap=True)
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for one in found:
        table.add_row(one.model, str(one.target), *_summary(one))
    return table


HEADS = ("MACs", "instructions", "packets", "MACs/instr", "contractions: of ideal",
         f"K >= {LONG}: of ideal", f"K >= {LONG}: dots", "in packets")  # fmt: skip


def _summary(one: Inference) -> tuple[str, ...]:
    every, contractions, long = one.total(), one.contractions, one.long
    is_packed = every.packets != every.instructions
    return (
        f"{every.macs:,}", f"{every.instructions:,}", f"{every.packets:,}" if is_packed else "-",
        f"{every.macs / every.instructions:.2f}", f"{contractions.of_ideal(one.ideal):.0%}",
        f"{long.of_ideal(one.ideal):.0%}", f"{long.dot_share:.0%}",
        f"{long.macs / max(long.packets, 1) / one.ideal:.0%}" if is_packed else "-",
    )  # fmt: skip


def markdown(found: Iterable[Inference]) -> Iterator[str]:
    """The table of docs/performance.md, line by line as it is measured."""
    yield "| model | target | " + " | ".join(HEADS) + " |"
    yield "|---" * (2 + len(HEADS)) + "|"
    for one in found:
        yield f"| {one.model} | {one.target} | " + " | ".join(_summary(one)) + " |"


if __name__ == "__main__":
    main()
