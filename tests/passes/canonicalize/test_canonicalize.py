"""The canonicalize pipeline on random graphs, on the zoo, and on large graphs."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.graph import Builder, Graph
from qir.ir.ops import Add, BatchNorm, Constant, Conv, Relu, Transpose
from qir.ir.types import F32, Tensor
from qir.passes.canonicalize.drop_identities import DropIdentities
from qir.passes.canonicalize.fold_constants import FoldConstants
from qir.passes.canonicalize.layout.merge_moves import MergeMoves
from qir.passes.canonicalize.layout.move_dequantize import MoveDequantize
from qir.passes.canonicalize.layout.move_quantize import MoveQuantize
from qir.passes.canonicalize.merge_equal_ops import MergeEqualOps
from qir.passes.canonicalize.recognize.clip import RecognizeClip
from qir.passes.infra.manager import Manager, Pass
from qir.passes.pipelines import CANONICALIZE
from tests.passes.float_graphs import TO_FIRST, TO_LAST, FloatGraphs


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 14))
def test_random_graphs_keep_their_outputs(seed: int, size: int) -> None:
    """Every pass keeps what it claims (the manager checks each), and nothing is left to do
    after.
    """
    graph = FloatGraphs(seed).graph(size)
    after = Manager(check=True).run(graph, CANONICALIZE)
    assert after.stage == "canonical"
    assert after.output_names == graph.output_names
    assert [v.type for v in after.outputs] == [v.type for v in graph.outputs]
    assert_settled(after)


def assert_settled(graph: Graph) -> None:
    """A second run gives the same graph, op for op and name for name, and records no rewrite."""
    manager = Manager()
    assert manager.run(graph, CANONICALIZE) == graph
    assert [r.name for r in manager.records if r.rewrites] == []


@pytest.mark.parametrize("pairs", [False, True])
def test_a_canonical_graph_is_canonical(pairs: bool) -> None:
    """Without exception, on a row of graphs: the random ones above are others each time."""
    for seed in range(60):
        graph = FloatGraphs(seed, pairs).graph(3 + seed % 14)
        assert_settled(Manager().run(graph, CANONICALIZE))


def test_rewrites_are_on_record_exactly_where_the_graph_changes() -> None:
    class Watched(Manager):
        def _run_one(self, graph: Graph, one: Pass) -> Graph:
            after = super()._run_one(graph, one)
            changed = after.canonical() != graph.canonical()
            assert changed == (self.records[-1].rewrites > 0), one.name
            return after

    for seed in range(60):
        Watched().run(FloatGraphs(seed).graph(3 + seed % 14), CANONICALIZE)


EXACT = (
    DropIdentities(), MergeEqualOps(), MergeMoves(), RecognizeClip(), MoveDequantize(),
    MoveQuantize(), DropIdentities(), MergeMoves(), DropIdentities(), FoldConstants(),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 20))
def test_quantized_graphs_keep_every_bit(seed: int, size: int) -> None:
    """The passes that claim every bit, on graphs with pairs: a last bit before one is a step
    after.
    """
    graph = FloatGraphs(seed, pairs=True).graph(size)
    assert all(one.claim.within == 0 for one in EXACT)
    Manager(check=True).run(graph, EXACT)


def deep(blocks: int) -> Graph:
    """A residual network as exported channels first, 11 ops a block."""
    builder = Builder("deep", "imported")
    value = builder.input("x", Tensor((1, 2, 4, 4), F32))
    weights = builder.add(Constant.of(np.eye(2, dtype=np.float32).reshape(2, 1, 1, 2)))
    rows = [builder.add(Constant.of(np.full(2, v, np.float32))) for v in (0.5, 0.1, 0.2, 1.5)]
    for _ in range(blocks):
        x = builder.add(Transpose(value, TO_LAST))
        y = builder.add(Conv(x, weights, None, (1, 1), (0, 0, 0, 0), (1, 1), 1))
        x = builder.add(Transpose(builder.add(Transpose(y, TO_FIRST)), TO_LAST))
        y = builder.add(BatchNorm(x, rows[0], rows[1], rows[2], rows[3], 1e-5))
        y = builder.add(Relu(builder.add(Transpose(y, TO_FIRST))))
        value = builder.add(Relu(builder.add(Add(y, value))))
    return builder.finish([value])


def test_layers_between_transposes_lose_them() -> None:
    after = Manager(check=True).run(deep(5), CANONICALIZE)
    assert sum(isinstance(op, Transpose) for op in after.ops) == 2  # one at each border
    assert sum(isinstance(op, BatchNorm) for op in after.ops) == 0


def test_cost_is_linear() -> None:
    """Four times the ops take four times the calls of functions, of all passes together."""

    def calls(blocks: int) -> int:
        graph, count = deep(blocks), 0

        def count_call(frame: object, event: str, arg: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(count_call)
        try:
            Manager().run(graph, CANONICALIZE)
        finally:
            sys.setprofile(None)
        return count

    calls(2)  # what is looked up once
    assert calls(80) < 4.4 * calls(20)


BORDER = {  # transposes left: at an input, where the channels are not one (a reshape does there)
    "resnet8": 1, "resnet20": 1, "dscnn": 0, "vww": 1, "autoencoder": 0, "mobilenetv1_025": 1,
    "mobilenetv2": 1, "squeezenet": 1, "ultraface": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", BORDER)
def test_only_border_transposes_remain(zoo: ModuleType, name: str) -> None:
    onnx_frontend = pytest.importorskip("qir.frontends.onnx")
    graph = onnx_frontend.import_onnx(zoo.ZOO[name].model)
    after = Manager(check=True).run(graph, CANONICALIZE)
    left = [op for op in after.ops if isinstance(op, Transpose)]
    assert len(left) == BORDER[name]
    inputs = {v.name for v in after.inputs}
    assert all(op.x.name in inputs for op in left)
