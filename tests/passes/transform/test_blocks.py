"""Heads rotated and channels sorted: reals stay, blocks hold like magnitudes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.ops import Add, Attention, Constant, Hadamard, Linear, Mul, Rope
from qir.ir.torch_executor import run_float
from qir.ir.types import Array
from qir.passes import pipelines
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Manager, Pass
from qir.passes.transform.blocks.rotate_heads import RotateKeys, RotateValues, balance
from qir.passes.transform.blocks.sort_channels import SortChannels, SortHeads
from tests.float_decoders import float_graph, random_decoder

TOKENS = np.random.default_rng(5).integers(0, 40, (8, 12)).astype(np.int32)
LAYOUTS = ("halves", "interleaved", "none")


def decoder(kv_heads: int, layout: str, seed: int = 0) -> Graph:
    """Of 4 query heads of 8 channels; rotary pairs as halves, side by side, or no rotation."""
    graph = float_graph(random_decoder(4, kv_heads, 8, seed=seed), 1, 12)

    def laid(op: object, builder: Builder) -> object:
        return replace(op, interleaved=True) if isinstance(op, Rope) else op

    if layout == "interleaved":
        return graph.mapped(laid)  # type: ignore[arg-type]
    if layout == "halves":
        return graph
    ropes = {op.names[0]: op.x for op in graph.ops if isinstance(op, Rope)}

    def still(op: object, builder: Builder) -> object:
        if not isinstance(op, Attention):
            return op
        q, k = (
            ropes[v.name] for v in (graph.producers[op.names[0]].q, graph.producers[op.names[0]].k)
        )  # type: ignore[attr-defined]
        return replace(op, q=q, k=k)

    return graph.mapped(still).without_dead_code()  # type: ignore[arg-type]


def run(graph: Graph) -> Array:
    return np.concatenate([run_float(graph, [row[None]])[0] for row in TOKENS[:2]])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "passes",
    [(SortHeads(),), (SortChannels(),), (RotateKeys((TOKENS,)), RotateValues())],
    ids=["heads", "channels", "rotated"],
)
def test_reals_stay(kv_heads: int, layout: str, passes: tuple[Pass, ...]) -> None:
    before = decoder(kv_heads, layout)
    manager = Manager(check=True)
    after = manager.run(before, passes)
    for record in manager.records:
        assert record.rewrites >= 2 and record.error is not None and record.error <= 1e-4
    expected = run(before)
    assert np.abs(run(after) - expected).max() <= 1e-4 * (1 + np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_heads_are_in_order(layout: str) -> None:
    after = Manager().run(decoder(2, layout), [SortHeads()])
    ropes = [op for op in after.ops if isinstance(op, Rope)]
    assert all(op.interleaved for op in ropes)
    for name, is_key in (("layer0_k", True), ("layer1_v", False)):
        w = constant_of(after, after.producers[name].w)  # type: ignore[attr-defined]
        assert w is not None
        norms = np.linalg.norm(w.astype(np.float64), axis=1).reshape(2, 8)
        if is_key and ropes:  # pairs of all heads together
            norms = np.sqrt(np.square(norms).reshape(2, 4, 2).sum((0, 2)))[None]
        assert (np.diff(norms, axis=1) <= 1e-6).all()


def test_channels_are_in_order_and_readers_agree() -> None:
    after = Manager().run(decoder(2, "halves"), [SortChannels()])
    down = constant_of(after, after.producers["layer0_down"].w)  # type: ignore[attr-defined]
    assert down is not None
    assert (np.diff(np.linalg.norm(down.astype(np.float64), axis=0)) <= 1e-6).all()


def test_what_cannot_be_sorted() -> None:
    manager = Manager()
    graph = decoder(2, "halves")
    manager.run(graph, [SortChannels(), SortHeads()])
    whys = {m.why for m in manager.records[0].misses}
    assert whys == {"no elementwise function of linear ops makes its operand"}
    full = decoder(4, "halves")
    shared = full.mapped(lambda op, b: replace(op, k=op.q) if isinstance(op, Attention) else op)
    manager = Manager()
    manager.run(shared, [SortHeads()])
    assert {m.why for m in manager.records[0].misses} >= {"something else reads it too"}


def test_keys_are_balanced_before_they_are_rotated() -> None:
    """All rotated keys have one size, and errors of scores come out least."""
    graph = Manager().run(decoder(2, "halves"), [RotateKeys((TOKENS,))])
    rotated = [op for op in graph.ops if isinstance(op, Hadamard)]
    assert len(rotated) == 4 and all(isinstance(graph.producers[op.x.name], Mul) for op in rotated)
    op = next(op for op in decoder(2, "halves").ops if isinstance(op, Attention))
    rng = np.random.default_rng(0)
    q, k = rng.uniform(1, 5, 32), rng.uniform(1, 5, 16)
    s, inverse = balance(op, {op.q.name: q, op.k.name: k})
    assert s is not None and inverse is not None
    assert np.allclose(s.reshape(2, 2, 8), 1 / inverse.reshape(2, 1, 8))
    assert np.allclose(np.square(k * inverse).reshape(2, 8).mean(1), 1)
    mean = np.sqrt(np.square(q).reshape(2, 2, 8).mean(1))

    def error(by: Array) -> Array:
        """Of scores, where all channels of a rotated key err in proportion to its size."""
        return np.square(mean * by).sum(1) * np.square(k.reshape(2, 8) / by).sum(1)

    best = error(s.reshape(2, 2, 8)[:, 0])
    for _ in range(20):
        other = s.reshape(2, 2, 8)[:, 0] * np.exp(0.3 * rng.standard_normal((2, 8)))
        assert (best <= error(other) * (1 + 1e-9)).all()


def test_products_of_constants_become_one() -> None:
    """Behind what equalize-attention leaves, balancing adds no product."""
    graph = decoder(2, "halves")
    result = Manager().run(graph.at_stage("canonical"), pipelines.transform(graph, (TOKENS,)))
    before = sum(isinstance(op, Mul) for op in result.ops)
    evened = sum(
        isinstance(result.producers[op.k.name], Mul)
        for op in result.ops
        if isinstance(op, Attention)
    )
    after = Manager().run(result, [RotateKeys((TOKENS,))])
    assert sum(isinstance(op, Mul) for op in after.ops) == before + 2 * (2 - evened)


def test_a_pair_of_layers_by_hand() -> None:
    b = Builder("pair", "canonical")
    rng = np.random.default_rng(1)
    x = b.input("x", random_input())
    one, two = (
        b.add(Constant.of(rng.standard_normal(s).astype(np.float32))) for s in ((6, 4), (3, 6))
    )
    bias = b.add(Constant.of(rng.standard_normal(6).astype(np.float32)))
    half = b.add(Constant.of(np.array(0.5, np.float32)))
    y = b.add(Linear(b.add(Add(b.add(Linear(x, one, bias)), half)), two, None))
    graph = b.finish([y])
    after = Manager(check=True).run(graph, [SortChannels()])
    values = [rng.standard_normal((1, 2, 4)).astype(np.float32)]
    assert np.allclose(run_float(after, values)[0], run_float(graph, values)[0], atol=1e-5)
    assert after != graph


def random_input():  # type: ignore[no-untyped-def]
    from qir.ir.types import F32, Tensor

    return Tensor((1, 2, 4), F32)
