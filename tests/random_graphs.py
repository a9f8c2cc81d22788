"""Seeded random integer graphs over every integer op, with extreme numbers; one seed, one graph."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.states import limits
from qir.ir.types import Array, Quant, integer_of
from tests.grower import Grower, Unfit
from tests.random_ops import KINDS
from tests.sequence_ops import SEQUENCE_KINDS, Rows

FAMILIES = {"all": (Grower, KINDS), "sequences": (Rows, SEQUENCE_KINDS)}
"""What grows a graph, and of which ops."""


def grow(builder: Builder, seed: int, ops: int = 8, family: str = "all") -> list[Value]:
    """Add one random graph to a builder; its outputs: what nobody reads, and sometimes more."""
    rng = np.random.default_rng([seed, 2024])
    grower, kinds = FAMILIES[family]
    g: Any = grower(builder, rng)
    for i in range(g.pick([1, 1, 2])):
        g.input(f"g{seed}_x{i}")
    weights = np.array([w for _, w in kinds], float)
    first, tries = len(g.values), 0
    while len(g.values) - first < ops and tries < 20 * ops:
        tries += 1
        kind: Any = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))][0]
        try:
            kind(g)
        except (Unfit, VerifyError):
            continue
    made = g.values[first:] or g.values
    read = {v.name for op in builder.finish(made).ops for v in op.operands}
    return [v for v in made if v.name not in read or g.chance(0.2)]


def random_graph(seed: int, ops: int = 8, family: str = "all") -> Graph:
    """The random graph of this seed."""
    return batch([seed], ops, family)


def batch(seeds: Sequence[int], ops: int = 8, family: str = "all") -> Graph:
    """Several random graphs side by side in one, so that one library holds them all."""
    builder = Builder(f"random_{seeds[0]}", "integer")
    outputs = [
        (f"g{seed}_y{i}", v)
        for seed in seeds
        for i, v in enumerate(grow(builder, seed, ops, family))
    ]
    return builder.finish([v for _, v in outputs], [n for n, _ in outputs])


NEAR = (-2, 40), (-8 << 8, 25 << 8)
"""Indices into what random graphs have, and row scales: [low, high)."""


def random_inputs(graph: Graph, rng: np.random.Generator, extreme: bool) -> list[Array]:
    """Stored integers for each input: any, or only the least, the greatest and the zero point;
    within what callers may give.
    """
    arrays, bounds = [], {limit.index: limit for limit in limits(graph)}
    for number, value in enumerate(graph.inputs):
        storage = integer_of(value.type.elem)
        assert storage is not None
        q = value.type.elem
        if not isinstance(q, Quant) and storage.bits > 1 and rng.random() < 0.7:
            values = rng.integers(*NEAR[int(rng.integers(len(NEAR)))], value.type.shape)
            values = values.clip(storage.min, storage.max)
        elif extreme:
            zero = int(q.zero_point.array) if isinstance(q, Quant) else 0
            values = rng.choice([storage.min, storage.max, zero], value.type.shape)
        else:
            values = rng.integers(storage.min, storage.max, value.type.shape, endpoint=True)
        if limit := bounds.get(number):
            values = values.clip(limit.low, limit.high)
        arrays.append(values.astype(storage.carrier))
    assert all(a.size == prod(a.shape) for a in arrays)
    return arrays
