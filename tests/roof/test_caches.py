"""Caches of few bits: artifacts have the interpreter's bits at every position and on every machine."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import qir
from qir import runtime
from qir.backends import build, find
from qir.ir.errors import DataError
from qir.ir.interpret import dequantize_outputs
from qir.ir.ops import Attention, UnpackRows
from qir.ir.states import Memory
from qir.ir.torch_executor import run_float
from qir.ir.types import U8, Array
from qir.language_net import LanguageNet
from qir.passes.transform.blocks.caches import PLANS, choose_plan, head_of
from qir.runtime.machine import cpu_flags
from tests.emulated.harness import need_emulator
from tests.float_decoders import float_graph, random_decoder

ROOM, CHUNK, VOCABULARY = 20, 6, 40
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, ROOM)
DECODER = random_decoder(heads=4, kv_heads=2, size=32)


@cache
def net(kv: int | str) -> LanguageNet:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (8, ROOM))
    return qir.compile_lm(
        float_graph(DECODER, 1, ROOM), calibration=ids, max_tokens=ROOM, prefill=CHUNK, kv=kv,
        name="small",
    )  # fmt: skip


@cache
def wanted(kv: int | str) -> Array:
    """The interpreter's logits, read token by token."""
    graph = net(kv).entries["decode"]
    memory, rows = Memory(graph), []
    for at, token in enumerate(TOKENS):
        (logits,) = memory.call(graph, [np.array([[token]]), np.array(at)])
        rows.append(dequantize_outputs(graph, [logits, *memory.arrays.values()])[0][0, 0])
    return np.array(rows)


@pytest.mark.parametrize("kv", [4, "bfp4", "bfp6"])
def test_every_position_has_the_interpreters_bits(kv: int | str) -> None:
    language = net(kv)
    assert np.array_equal(language.logits(TOKENS), wanted(kv))
    for first in (1, 6, 7, 13):
        sequence = language.new_sequence()
        assert np.array_equal(language.prefill(TOKENS[:first], sequence), wanted(kv)[first - 1])
        for at in range(first, ROOM):
            logits = language.decode(int(TOKENS[at]), sequence)
            assert np.array_equal(logits, wanted(kv)[at]), (first, at)


@pytest.mark.parametrize("target", ["x86", "c", "aarch64", "riscv64"])
def test_on_other_machines(target: str) -> None:
    if target in ("aarch64", "riscv64"):
        need_emulator(target)
    loaded = runtime.from_files(build(net(4).entries, target, "small").files)
    variants = [v.name for v in find(target).variants if set(v.needs) <= cpu_flags()]
    for variant in variants if target == "x86" else [None]:
        session = runtime.opened(loaded, variant=variant, emulate=target not in ("x86", "c"))
        language = LanguageNet(session, net(4).stages, net(4).report(), net(4).entries)
        assert np.array_equal(language.logits(TOKENS), wanted(4)), variant


@pytest.mark.parametrize(("kv", "bits"), [(4, 4.5), ("bfp4", 4.25), ("bfp6", 6.25)])
def test_bytes_of_a_cache(kv: int | str, bits: float) -> None:
    graph = net(kv).entries["decode"]
    kept = [v for v in graph.inputs if v.name.endswith("_cache")]
    assert len(kept) == 4 and all(v.type.elem == U8 for v in kept)
    values = 4 * ROOM * DECODER.kv_heads * DECODER.size
    assert sum(v.type.size for v in kept) * 8 == values * bits == values * PLANS[kv].bits(32)
    assert sum(isinstance(op, UnpackRows) for op in graph.ops) == 4


def test_eight_bits_of_block_floating_point_are_those_of_the_static_scales() -> None:
    assert np.array_equal(net("bfp8").logits(TOKENS), net(8).logits(TOKENS))


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
        net(5)


def test_four_bits_are_close_to_the_float_model() -> None:
    (float_logits,) = run_float(float_graph(DECODER, 1, ROOM), [TOKENS[None].astype(np.int32)])
    errors = {kv: np.square(net(kv).logits(TOKENS) - float_logits[0]).mean() for kv in (8, 4)}
    signal = np.square(float_logits).mean()
    assert errors[8] < 1e-3 * signal and errors[8] < errors[4] < 0.02 * signal
