"""equalize-attention: the same logits, and keys of one reach in every head and direction."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Linear, Mul, Rope, Slice
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes.infra.manager import Manager, distance, divisors, restored
from qir.passes.transform.attention_chains import pairs_of
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.equalize_attention import EqualizeAttention
from tests.float_decoders import float_graph, random_decoder

COUNT = 12
TOKENS = np.random.default_rng(1).integers(0, 40, (16, COUNT)).astype(np.int32)


def heads_of(graph: Graph) -> list[Attention]:
    return [op for op in graph.ops if isinstance(op, Attention)]


def equalized(graph: Graph, *sample: Array) -> tuple[Graph, Manager]:
    manager = Manager(check=True, samples=tuple(x[:1] for x in sample))
    return manager.run(graph, [EqualizeAttention(sample)]), manager


def turned(graph: Graph, interleaved: bool, size: int) -> Graph:
    """The graph with other pairs: interleaved, or of the first channels alone."""

    def other(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Rope):
            return op
        tables = []
        for v in (op.cos, op.sin):
            source = builder.producer(v)
            assert isinstance(source, Constant)
            tables.append(builder.add(Constant.of(source.value.array[:, : size // 2])))
        return replace(op, cos=tables[0], sin=tables[1], interleaved=interleaved)

    return graph.mapped(other)


@pytest.mark.parametrize(("interleaved", "size"), [(False, 8), (True, 8), (True, 4), (False, 6)])
def test_pairs_have_one_reach(interleaved: bool, size: int) -> None:
    before = turned(float_graph(random_decoder(), 1, COUNT), interleaved, size)
    after, manager = equalized(before, TOKENS)
    assert manager.records[0].rewrites == 4 and not manager.records[0].misses
    for op in heads_of(after):
        rotated = after.producers[op.k.name]
        value = rotated.a if isinstance(rotated, Mul) else op.k
        wide = channel_reach(after, (TOKENS,), {value.name})[value.name].of_all.reshape(2, 8)
        for pair in pairs_of(after, value, 8):
            assert np.allclose(wide[:, pair].max(1), 1.0, atol=1e-4)


def slow(graph: Graph) -> Graph:
    """The graph with rotations that hardly turn."""

    def other(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Rope):
            return op
        tables = []
        for v, value in ((op.cos, 1.0), (op.sin, 0.0)):
            tables.append(builder.add(Constant.of(np.full(v.type.shape, value, np.float32))))
        return replace(op, cos=tables[0], sin=tables[1])

    return graph.mapped(other)


def test_what_a_pair_does_not_share_is_a_product_behind_the_rotation() -> None:
    decoder = random_decoder(layers=1)
    decoder.layers[0]["k"][3] *= 5  # type: ignore[index]
    after, _ = equalized(slow(float_graph(decoder, 1, COUNT)), TOKENS)
    (op,) = heads_of(after)
    assert all(isinstance(after.producers[v.name], Mul) for v in (op.q, op.k))
    reach = channel_reach(after, (TOKENS,), {op.k.name})[op.k.name]
    assert np.allclose(reach.of_all, 1.0, atol=1e-4)


def test_values_go_back_by_what_they_were_divided_by() -> None:
    before = float_graph(random_decoder(), 1, COUNT)
    after, manager = equalized(before, TOKENS)
    divided = divisors(manager.records)
    names = sorted(divided)
    assert len(names) == 2 * 6  # of each layer q and k before and behind rope, v, the result
    runs: list[dict[str, Array]] = []
    for graph in (before, after):
        outputs = [v for v in graph.values if v.name in divided]
        whole = replace(graph, outputs=tuple(outputs), output_names=tuple(v.name for v in outputs))
        results = run_float(whole, [TOKENS[:1]])
        runs.append(dict(zip(whole.output_names, results, strict=True)))
    for name in names:
        assert distance([runs[0][name]], [restored(runs[1][name], divided[name])]) < 1e-5


def fused(heads: int, kv_heads: int) -> Graph:
    """Attention on slices of one linear op with a bias, without rope."""
    rng, b, size = np.random.default_rng(3), Builder("fused", "canonical"), 4
    sizes = [heads * size, kv_heads * size, kv_heads * size]

    def linear(x: Value, count: int) -> Value:
        w = b.add(Constant.of(rng.standard_normal((count, x.type.shape[-1])).astype(np.float32)))
        bias = b.add(Constant.of(rng.standard_normal(count).astype(np.float32)))
        return b.add(Linear(x, w, bias))

    whole = linear(b.input("x", Tensor((1, 5, 16), F32)), sum(sizes))
    ends = np.cumsum([0, *sizes])
    q, k, v = (
        b.add(Slice(whole, (0, 0, int(i)), (1, 5, int(j)), (1, 1, 1)))
        for i, j in itertools.pairwise(ends)
    )
    op = Attention(q, k, v, None, None, None, heads, kv_heads, 0.5, False, 0)
    return b.finish([linear(b.add(op), 16)])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_slices_of_one_layer(kv_heads: int) -> None:
    x = np.random.default_rng(4).standard_normal((8, 5, 16)).astype(np.float32)
    after, manager = equalized(fused(4, kv_heads), x)
    assert manager.records[0].rewrites == 2
    (op,) = heads_of(after)
    reach = channel_reach(after, (x,), {op.k.name})[op.k.name]
    assert np.allclose(reach.of_all, 1.0, atol=1e-4)


def test_what_is_read_twice_stays() -> None:
    graph = float_graph(random_decoder(layers=1), 1, COUNT)
    (op,) = heads_of(graph)
    outputs = (*graph.outputs, op.k, op.v)
    names = (*graph.output_names, "k", "v")
    after, manager = equalized(replace(graph, outputs=outputs, output_names=names), TOKENS)
    assert [m.why for m in manager.records[0].misses] == ["an output of the graph"] * 2
    assert after.ops == graph.ops


def test_pairs_of_channels() -> None:
    graph = float_graph(random_decoder(layers=1), 1, COUNT)
    (op,) = heads_of(turned(graph, False, 6))
    value = turned(graph, False, 6).producers[op.k.name].results[0]
    assert pairs_of(turned(graph, False, 6), value, 8) == [[0, 3], [1, 4], [2, 5], [6], [7]]
