"""Layers that end in scale_rows: where no sum of codes is stored, and where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qir.backends import find, lower
from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.plain import PlainCode
from qir.backends.kernels.sequence.rows import ScaleRowsCode
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


@pytest.mark.parametrize(
    ("target", "each"), [("x86-avx2", 8), ("x86-avx512vnni", 8), ("aarch64-dotprod", 4)]
)
def test_a_channel_takes_few_bytes(target: str, each: int) -> None:
    """A multiplier, and a bias where codes are read as unsigned; beside these, numbers that all
    channels of a layer have."""
    program = lower(GRAPH, find(target))
    codes = [code for code in program.codes.values() if isinstance(code, DenseCode)]
    assert codes
    for code in codes:
        assert code.record_bytes == each * code.machine.lanes
        assert code.records_at <= code.machine.vector_bytes


def test_a_channel_takes_few_bytes_in_plain_loops() -> None:
    """A multiplier and a shift."""
    program = lower(GRAPH, find("c"))
    linear = [code for code in program.codes.values() if isinstance(code, PlainCode)]
    scales = [code for code in program.codes.values() if isinstance(code, ScaleRowsCode)]
    assert linear and all(code.constant_bytes == 0 for code in linear)
    assert scales and {entry[:2] for code in scales for entry in code.fields.entries} == {
        ("mult", "int32"), ("shift", "int8"), ("residual", "int64")
    }  # fmt: skip


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
