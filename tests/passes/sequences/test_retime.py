"""The same decoder for other numbers of tokens, and behind a cache: every bit of every token."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Attention,
    Concat,
    Constant,
    Linear,
    PackRows,
    Reshape,
    SliceRows,
    Take,
    WriteRows,
)
from qir.ir.ranges import prove_no_overflow
from qir.ir.torch_executor import run_float
from qir.ir.types import I32, Array, Tensor
from qir.ir.verify import verify
from qir.passes import pipelines
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Miss, Record
from qir.passes.infra.retime import retime, with_cache
from qir.passes.integer.pack_caches import PackCaches
from qir.passes.quantize.place_rows import row_passes
from tests.float_decoders import float_graph, random_decoder

COUNT = 12
TOKENS = np.random.default_rng(5).integers(0, 40, (32, COUNT)).astype(np.int32)


def positioned() -> Graph:
    """A decoder of one block whose positions are added, without rope."""
    rng, b, width = np.random.default_rng(3), Builder("positioned", "canonical"), 16

    def constant(*shape: int) -> Value:
        values = rng.standard_normal(shape) / np.sqrt(shape[-1])
        return b.add(Constant.of(values.astype(np.float32)))

    embedded = b.add(Take(constant(40, width), b.input("tokens", Tensor((1, COUNT), I32))))
    x = b.add(Add(embedded, constant(1, COUNT, width)))
    q, k, v = (b.add(Linear(x, constant(width, width), constant(width))) for _ in range(3))
    heads = b.add(Attention(q, k, v, None, None, None, 2, 2, 8**-0.5, True, 0))
    return b.finish([b.add(Linear(heads, constant(40, width), constant(40)))])


def integers(graph: Graph) -> Graph:
    graph, manager = graph.at_stage("transformed"), Manager()
    pairs = pipelines.quantize(calibrate(graph, [TOKENS]), rows=row_passes(graph))
    return manager.run(manager.run(graph, pairs), pipelines.TO_INTEGER)


@cache
def whole(kind: str) -> Graph:
    """The integer graph of COUNT tokens, with rope or with positions that are added."""
    return integers(float_graph(random_decoder(), 1, COUNT) if kind == "rope" else positioned())


def retimed(graph: Graph, count: int) -> Graph:
    new = retime(graph, count)
    assert not isinstance(new, Miss), new.why
    verify(new)
    return new


@pytest.mark.parametrize("kind", ["rope", "positions"])
@pytest.mark.parametrize("count", [1, 5, COUNT])
def test_first_tokens(kind: str, count: int) -> None:
    expected = interpret(whole(kind), [TOKENS[:1]])[0]
    new = retimed(whole(kind), count)
    assert prove_no_overflow(new)
    assert np.array_equal(interpret(new, [TOKENS[:1, :count]])[0], expected[:, :count])


def test_floats_too() -> None:
    graph = float_graph(random_decoder(), 1, COUNT)
    expected = run_float(graph, [TOKENS[:1]])[0]
    outputs = run_float(retimed(graph, 4), [TOKENS[:1, :4]])[0]
    assert np.allclose(outputs, expected[:, :4], atol=1e-5)


def run_chunks(graph: Graph, sizes: list[int], most: int) -> Array:
    """The logits of a row of tokens that comes in chunks: each graph takes the caches of the one
    before.
    """
    entries = {}
    for size in set(sizes):
        new = with_cache(graph, size, most)
        assert not isinstance(new, Miss), new.why
        verify(new)
        entries[size] = new
    state: dict[str, Array] = {}
    logits, start = [], 0
    for size in sizes:
        entry = entries[size]
        row = TOKENS[:1, start : start + size]
        empty = {v.name: np.zeros(v.type.shape, v.type.elem.carrier) for v in entry.inputs}
        feeds = {**empty, **state, "tokens": row, "start": np.array(start, np.int32)}
        arrays = [feeds[v.name] for v in entry.inputs]
        results = dict(zip((v.name for v in entry.outputs), interpret(entry, arrays), strict=True))
        state = {before: results[after] for before, after in entry.states}
        logits.append(results[entry.outputs[0].name])
        start += size
    return np.concatenate(logits, 1)


@pytest.mark.parametrize(
    "packing", [PackCaches(block=8), PackCaches("bfp4", "bfp6", 8), PackCaches("", "span4", 4)]
)
def test_packed_caches_too(packing: PackCaches) -> None:
    graph = Manager(check=True).run(whole("rope"), [packing])
    expected = interpret(graph, [TOKENS[:1]])[0]
    assert not np.array_equal(expected, interpret(whole("rope"), [TOKENS[:1]])[0])
    for sizes in ([5, *[1] * 7], [4, 4, 4]):
        assert np.array_equal(run_chunks(graph, sizes, COUNT), expected)


def test_eight_bits_of_block_floating_point_are_those_of_static_scales() -> None:
    graph = Manager().run(whole("rope"), [PackCaches("bfp8", "bfp8", 8)])
    assert sum(isinstance(op, PackRows) for op in graph.ops) == 4
    expected = interpret(whole("rope"), [TOKENS[:1]])[0]
    assert np.array_equal(interpret(graph, [TOKENS[:1]])[0], expected)


def test_formats_that_do_not_fit_a_head() -> None:
    record = Record("pack-caches", PackCaches.claim)
    graph = PackCaches("span4", "bfp6", 7).run(whole("rope"), record)
    assert graph == whole("rope")
    assert {m.why for m in record.misses} == {
        "heads of 8 channels, blocks of 7: a divisor and 2 * n needed",
        "heads of 8 channels, blocks of 7: a divisor and 4 * n needed",
    }
    with pytest.raises(PassError, match="'span8' given, span4, span6, bfp4, bfp6 or bfp8 is"):
        PackCaches("span8")


@pytest.mark.parametrize("kind", ["rope", "positions"])
@pytest.mark.parametrize("sizes", [[5, *[1] * 7], [1] * COUNT, [4, 4, 4], [COUNT], [11, 1]])
def test_cached_tokens_are_the_whole(kind: str, sizes: list[int]) -> None:
    """Prefill and decode, up to the last position of the cache."""
    expected = interpret(whole(kind), [TOKENS[:1]])[0]
    assert np.array_equal(run_chunks(whole(kind), sizes, COUNT), expected)


def test_what_a_cache_adds() -> None:
    entry = with_cache(whole("rope"), 1, 10)
    assert isinstance(entry, Graph)
    assert [v.name for v in entry.inputs[:2]] == ["tokens", "start"]
    caches = {v.name: v for v in entry.inputs[2:]}
    outputs = {v.name: v for v in entry.outputs[1:]}
    assert len(entry.states) == len(caches) == len(outputs) == 4
    for before, after in entry.states:
        assert caches[before].type == outputs[after].type
        assert caches[before].type.shape == (1, 10, 16)
        made = entry.producers[after]
        assert isinstance(made, WriteRows) and made.cache.name == before
    assert sum(isinstance(op, SliceRows) for op in entry.ops) == 2  # of cosines, of sines
    assert prove_no_overflow(entry)


def test_refusals() -> None:
    assert retime(whole("rope"), COUNT + 1) == Miss(
        f"%c_fixed has {COUNT} positions, {COUNT + 1} are needed", "rope"
    )


def test_padding_behind_the_valid_tokens_is_never_seen() -> None:
    """A chunk that is filled up: its last rows are written, and later overwritten."""
    expected = interpret(whole("rope"), [TOKENS[:1]])[0]
    chunk, one = (with_cache(whole("rope"), size, COUNT) for size in (5, 1))
    assert isinstance(chunk, Graph) and isinstance(one, Graph)
    row = np.concatenate([TOKENS[:1, :3], np.full((1, 2), 39, np.int32)], 1)
    caches = [np.zeros(v.type.shape, np.int8) for v in chunk.inputs[2:]]
    logits, *caches = interpret(chunk, [row, np.array(0, np.int32), *caches])
    assert np.array_equal(logits[:, :3], expected[:, :3])
    for at in (3, 4):
        token = TOKENS[:1, at : at + 1]
        logits, *caches = interpret(one, [token, np.array(at, np.int32), *caches])
        assert np.array_equal(logits[:, 0], expected[:, at])


def tokens_apart(kind: str) -> Graph:
    b = Builder("apart", "canonical")
    x = b.input("x", Tensor((1, COUNT, 4), I32))
    return b.finish([b.add(Reshape(x, (1, COUNT * 4)) if kind == "reshape" else Concat((x, x), 1))])


@pytest.mark.parametrize("kind", ["reshape", "concat"])
def test_ops_that_tell_tokens_apart(kind: str) -> None:
    miss = retime(tokens_apart(kind), 3)
    assert isinstance(miss, Miss) and miss.why == f"{kind} may tell tokens apart"


def test_bidirectional_attention_has_no_cache() -> None:
    seeing = positioned().mapped(
        lambda op, _: replace(op, causal=False) if isinstance(op, Attention) else op
    )
    miss = with_cache(integers(seeing), 1, COUNT)
    assert isinstance(miss, Miss)
    assert miss.why == "causal attention without a mask or a start is needed"
