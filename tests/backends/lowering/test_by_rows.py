"""Layers that end in scale_rows: where no sum of codes is stored, and where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qir.backends import find, lower
from qir.backends.lowering.fuse import fuse
from qir.ir.data import Data
from qir.ir.graph import Graph
from qir.ir.ops import Linear, ScaleRows
from tests.small_transformers import Shape, decoder

GRAPH = decoder(Shape(layers=1))


def steps(graph: Graph, target: str) -> list[str]:
    return [step.title for step in lower(graph, find(target)).steps]


@pytest.mark.parametrize("target", ["x86-avx512vnni", "x86-avx2", "aarch64", "armv7", "riscv64"])
def test_machines_with_vectors_store_no_sum(target: str) -> None:
    layers = [t for t in steps(GRAPH, target) if t.startswith("linear")]
    assert len(layers) == 8 and all("+ scale_rows" in t for t in layers)


@pytest.mark.parametrize("target", ["c", "x86-64", "cortex-m4", "hexagon-v68"])
def test_other_machines_do(target: str) -> None:
    titles = steps(GRAPH, target)
    assert sum(t.startswith("scale_rows") for t in titles) == 8


def test_a_sum_that_others_read_is_stored() -> None:
    first = next(op.result for op in GRAPH.ops if isinstance(op, Linear))
    names = (*GRAPH.output_names, "sums")
    seen = replace(GRAPH, outputs=(*GRAPH.outputs, first), output_names=names)
    layers = [fusion for fusion in fuse(seen) if isinstance(fusion.anchor, Linear)]
    assert [fusion.anchor.result for fusion in layers if fusion.rows is None] == [first]


def test_what_could_overflow_beside_a_product_is_not_fused() -> None:
    ops = [
        replace(op, bias=Data(op.mult.array * 0 + (1 << 59))) if isinstance(op, ScaleRows) else op
        for op in GRAPH.ops
    ]
    assert all(fusion.rows is None for fusion in fuse(replace(GRAPH, ops=tuple(ops))))
