"""Plans of a cache: how keys and values are packed, and whether they are rotated before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qir.ir.errors import DataError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, RoundBlocks
from qir.ir.ops.sequence import blocks, matrices
from qir.ir.torch_executor import run_float
from qir.ir.types import Array
from qir.passes.calibrate.ranges import rows_of, run_of
from qir.passes.infra.manager import Manager, Miss, Pass
from qir.passes.integer.pack_caches import WHOLE, PackCaches, packing_of
from qir.passes.transform.blocks.rotate_heads import RotateKeys, RotateValues

HEAD = 256  # channels of the widest block: a head mostly has fewer, and is one then
ROWS = 4  # of the sample on which plans are compared
MOST_DIVERGENCE = 0.025  # in nats a token, of what `auto` picks


@dataclass(frozen=True)
class CachePlan:
    """`keys`, `values`: formats as pack-caches takes them, empty for 8 bits of static scales;
    `rotated`: by a Hadamard matrix before, keys at run time and values in the weights.
    """

    keys: str = ""
    values: str = ""
    block: int = HEAD
    rotated: bool = False

    def float_passes(self, sample: tuple[Array, ...]) -> tuple[Pass, ...]:
        """On the float graph, before calibration."""
        return (RotateKeys(sample), RotateValues()) if self.rotated else ()

    @property
    def integer_passes(self) -> tuple[Pass, ...]:
        if not (self.keys or self.values):
            return ()
        return (PackCaches(self.keys, self.values, self.block),)

    def bits(self, head: int) -> float:
        """Bits a value in a cache, with the numbers of blocks, of heads of so many channels."""
        return sum(_bits(kind, self.block, head) for kind in (self.keys, self.values)) / 2

    def __str__(self) -> str:
        kinds = f"{self.keys or WHOLE}, {self.values or WHOLE}"
        size = f" in blocks of {self.block}" if self.block < HEAD else ""
        return f"{kinds}{size}{', rotated' if self.rotated else ''}"


def _bits(kind: str, block: int, head: int) -> float:
    packing = packing_of(kind, block, head)
    if packing is None or isinstance(packing, Miss):
        return float(WHOLE)
    return 8 * blocks.packed_bytes(packing, head) / head


BFP_BLOCK = 32
PLANS: Mapping[int | str, CachePlan] = {
    8: CachePlan(),
    4: CachePlan("span4", "span4", rotated=True),
    "bfp8": CachePlan("bfp8", "bfp8", BFP_BLOCK),
    "bfp6": CachePlan("bfp6", "bfp6", BFP_BLOCK),
    "bfp4": CachePlan("bfp4", "bfp4", BFP_BLOCK, rotated=True),
}
"""By the name that a caller gives."""

AUTO = "auto"


def plan_named(kv: Any) -> CachePlan | None:
    """The plan of that name; None for auto. None names 8 bits. Errors: DataError for any other."""
    if kv == AUTO:
        return None
    if kv is None:
        return PLANS[WHOLE]
    is_plan = isinstance(kv, int | str) and not isinstance(kv, bool) and kv in PLANS
    if not is_plan:
        names = ", ".join(map(repr, (*PLANS, AUTO)))
        raise DataError(f"kv: {kv!r} given, one of {names} is needed")
    return PLANS[kv]


CANDIDATES = (
    PLANS["bfp4"],
    PLANS[4],
    replace(PLANS[4], rotated=False),
    CachePlan("span4", "span4", 32, rotated=True),
    CachePlan("span6", "span4", rotated=True),
    CachePlan("span6", "span6", rotated=True),
)
"""What `auto` looks at, beside 8 bits."""


@dataclass(frozen=True)
class Trial:
    """A plan, its bits a value, and how far it moves the distribution of the next token (nats)."""

    plan: CachePlan
    bits: float
    divergence: float


def head_of(graph: Graph) -> int:
    """Channels of a head of keys; 0 without attention."""
    sizes = (op.k.type.shape[-1] // op.kv_heads for op in graph.ops if isinstance(op, Attention))
    return max(sizes, default=0)


def choose_plan(
    graph: Graph, sample: Sequence[Array], most: float = MOST_DIVERGENCE
) -> tuple[CachePlan, tuple[Trial, ...]]:
    """The plan of the fewest bits whose divergence, on the sample, is at most `most` nats a token;
    of those with as many bits that of the least. 8 bits where none is.
    """
    if not head_of(graph) or not sample:
        return PLANS[8], ()
    outcomes = tuple(trials(graph, sample))
    fits = [t for t in outcomes if t.divergence <= most]
    best = min(fits, key=lambda t: (round(t.bits, 2), t.divergence), default=None)
    return (PLANS[8] if best is None else best.plan), outcomes


def trials(graph: Graph, sample: Sequence[Array]) -> Iterator[Trial]:
    """Every candidate, with keys and values rounded in the float graph."""
    head, count = head_of(graph), len(sample[0]) // rows_of(graph.inputs[0])
    runs = [run_of(graph, sample, i) for i in range(min(ROWS, count))]
    logs = [log_chances(run_float(graph, run)[-1]) for run in runs]
    for plan in CANDIDATES:
        if plan.rotated and matrices.factors(head) is None:
            continue
        candidate = rounded(graph, plan, tuple(sample))
        divergences = [
            divergence(y, log_chances(run_float(candidate, run)[-1]))
            for run, y in zip(runs, logs, strict=True)
        ]
        yield Trial(plan, plan.bits(head), float(np.mean(divergences)))


def log_chances(logits: Array) -> Array:
    """The logarithms of what softmax makes of them."""
    wide = logits.astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def divergence(one: Array, other: Array) -> float:
    """KL of two distributions, given by their logarithms, in nats; the mean of all positions."""
    return float((np.exp(one) * (one - other)).sum(-1).mean())


def rounded(graph: Graph, plan: CachePlan, sample: tuple[Array, ...]) -> Graph:
    """The float graph with keys and values as the plan's cache would hold them."""
    base = Manager().run(graph, plan.float_passes(sample))

    def rows(x: Value, kind: str, op: Attention, builder: Builder) -> Value:
        packing = packing_of(kind, plan.block, x.type.shape[-1] // op.kv_heads)
        if packing is None or isinstance(packing, Miss):
            return x
        return builder.add(RoundBlocks(x, packing))

    def rewrite(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Attention):
            return op
        k, v = (
            rows(op.k, plan.keys, op, builder),
            rows(op.v, plan.values, op, builder),
        )
        return replace(op, k=k, v=v)

    return base.mapped(rewrite)
