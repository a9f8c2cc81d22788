"""Caches of few bits: artifacts have the interpreter's bits at every position."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import qir
from qir import runtime
from qir.backends import build
from qir.ir.errors import DataError
from qir.ir.graph import Graph
from qir.ir.interpret import dequantize_outputs
from qir.ir.ops import Attention, UnpackRows
from qir.ir.states import StateMemory
from qir.ir.torch_executor import run_float
from qir.ir.types import U8, Array
from qir.language_net import LanguageNet
from qir.passes.transform.blocks.caches import PLANS, choose_plan, head_of
from tests.float_decoders import float_graph, random_decoder

ROOM, CHUNK, VOCABULARY = 20, 6, 40
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, ROOM)
DECODER = random_decoder(heads=4, kv_heads=2, size=32)


@cache
def net() -> LanguageNet:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (8, ROOM))
    graph = float_graph(DECODER, 1, ROOM)
    return qir.compile_lm(graph, calibration=ids, max_tokens=ROOM, prefill=CHUNK, kv=4)


def read(graph: Graph) -> Array:
    """The interpreter's logits, token by token."""
    memory, rows = StateMemory(graph), []
    for at, token in enumerate(TOKENS):
        (logits,) = memory.call(graph, [np.array([[token]]), np.array(at)])
        rows.append(dequantize_outputs(graph, [logits, *memory.arrays.values()])[0][0, 0])
    return np.array(rows)


@cache
def wanted() -> Array:
    return read(net().entries["decode"])


def test_every_position_has_the_interpreters_bits() -> None:
    language = net()
    assert np.array_equal(language.logits(TOKENS), wanted())
    for first in (1, 6, 7, 13):
        sequence = language.new_sequence()
        assert np.array_equal(language.prefill(TOKENS[:first], sequence), wanted()[first - 1])
        for at in range(first, ROOM):
            logits = language.decode(int(TOKENS[at]), sequence)
            assert np.array_equal(logits, wanted()[at]), (first, at)


def test_in_portable_c() -> None:
    loaded = runtime.from_files(build(net().entries, "c", "small").files)
    language = LanguageNet(runtime.opened(loaded), net().stages, net().report(), net().entries)
    assert np.array_equal(language.logits(TOKENS), wanted())


def test_bytes_of_a_cache() -> None:
    graph = net().entries["decode"]
    kept = [v for v in graph.inputs if v.name.endswith("_cache")]
    assert len(kept) == 4 and all(v.type.elem == U8 for v in kept)
    values = 4 * ROOM * DECODER.kv_heads * DECODER.size
    assert sum(v.type.size for v in kept) * 8 == values * 4.5 == values * PLANS[4].bits(32)
    assert sum(isinstance(op, UnpackRows) for op in graph.ops) == 4


def test_auto_takes_the_fewest_bits_that_keep_the_distribution() -> None:
    graph = float_graph(DECODER, 1, ROOM).at_stage("transformed")
    sample = (np.random.default_rng(0).integers(0, VOCABULARY, (4, ROOM)).astype(np.int32),)
    strict, found = choose_plan(graph, sample, 0.0)
    assert strict == PLANS[8] and len(found) > 4 and head_of(graph) == 32
    most = max(t.divergence for t in found)
    loose, _ = choose_plan(graph, sample, most)
    assert loose.bits(32) == min(t.bits for t in found)
    middle = sorted(t.divergence for t in found)[2]
    chosen, _ = choose_plan(graph, sample, middle)
    mine = next(t for t in found if t.plan == chosen)
    assert mine.divergence <= middle
    assert all(t.bits >= mine.bits for t in found if t.divergence <= middle)


def test_auto_of_a_graph_without_attention_has_nothing_to_choose() -> None:
    graph = float_graph(random_decoder(layers=0), 1, ROOM).at_stage("transformed")
    assert not any(isinstance(op, Attention) for op in graph.ops)
    assert choose_plan(graph, (TOKENS[None],)) == (PLANS[8], ())


def test_what_names_no_format() -> None:
    why = "kv: 5 given, one of 8, 4, 'bfp8', 'bfp6', 'bfp4', 'auto' is needed"
    with pytest.raises(DataError, match=why):
        qir.compile_lm(None, calibration=TOKENS, max_tokens=ROOM, kv=5)


def test_four_bits_are_close_to_the_float_model() -> None:
    (exact,) = run_float(float_graph(DECODER, 1, ROOM), [TOKENS[None].astype(np.int32)])
    error = np.square(wanted() - exact[0]).mean() / np.square(exact).mean()
    assert error < 0.02
