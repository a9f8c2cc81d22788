"""Seeded random integer graphs over every integer op, with extreme numbers; one seed, one graph."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.types import Array, integer_of
from tests.grower import Grower, Unfit
from tests.random_ops import KINDS


def grow(builder: Builder, seed: int, ops: int = 8) -> list[Value]:
    """Add one random graph to a builder; its outputs: what nobody reads, and sometimes more."""
    rng = np.random.default_rng([seed, 2024])
    g = Grower(builder, rng)
    for i in range(g.pick([1, 1, 2])):
        g.input(f"g{seed}_x{i}")
    weights = np.array([w for _, w in KINDS], float)
    first, tries = len(g.values), 0
    while len(g.values) - first < ops and tries < 20 * ops:
        tries += 1
        kind = KINDS[int(rng.choice(len(KINDS), p=weights / weights.sum()))][0]
        try:
            kind(g)
        except (Unfit, VerifyError):
            continue
    made = g.values[first:] or g.values
    read = {v.name for op in builder.finish(made).ops for v in op.operands}
    return [v for v in made if v.name not in read or g.chance(0.2)]


def random_graph(seed: int, ops: int = 8) -> Graph:
    """The random graph of this seed."""
    return batch([seed], ops)


def batch(seeds: Sequence[int], ops: int = 8) -> Graph:
    """Several random graphs side by side in one, so that one library holds them all."""
    builder = Builder(f"random_{seeds[0]}", "integer")
    outputs = [
        (f"g{seed}_y{i}", v) for seed in seeds for i, v in enumerate(grow(builder, seed, ops))
    ]
    return builder.finish([v for _, v in outputs], [n for n, _ in outputs])


def random_inputs(graph: Graph, rng: np.random.Generator, extreme: bool) -> list[Array]:
    """Stored integers for each input: any, or only the least, the greatest and the zero point."""
    arrays = []
    for value in graph.inputs:
        kept = integer_of(value.type.elem)
        assert kept is not None
        if extreme:
            drawn = rng.choice(
                [kept.min, kept.max, int(value.type.quant.zero_point.array)], value.type.shape
            )
        else:
            drawn = rng.integers(kept.min, kept.max + 1, value.type.shape)
        arrays.append(drawn.astype(kept.carrier))
    assert all(a.size == prod(a.shape) for a in arrays)
    return arrays
