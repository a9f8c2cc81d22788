"""Layers side by side and layers left out: structure, reals, search, and integers on machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import qir
from qir import runtime
from qir.backends import build
from qir.backends.c import dispatch
from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret
from qir.ir.op import Op
from qir.ir.ops import Attention, Linear
from qir.ir.ops.quantize import dequantized
from qir.ir.states import StateMemory
from qir.ir.torch_executor import run_float
from qir.ir.verify import verify
from qir.language_net import LanguageNet
from qir.models import imported
from qir.passes.infra.manager import Manager, distance
from qir.passes.pipelines import CANONICALIZE, lower
from qir.passes.transform.depth.choose_groups import choose_groups
from qir.passes.transform.depth.group_layers import ALL, GroupLayers, layers_of
from qir.passes.transform.depth.requests import Concurrency, Skip
from qir.passes.transform.depth.skip_decode import kept_layers, skipped_spans
from qir.passes.transform.depth.skip_layers import SkipLayers
from qir.passes.transform.depth.sublayers import ATTENTION, MLP, sublayers_of
from tests.emulated.harness import need_emulator
from tests.float_decoders import float_graph, random_decoder

LAYERS = 4
TOKENS = np.random.default_rng(5).integers(0, 40, (8, 6)).astype(np.int32)
GRAPH = float_graph(random_decoder(layers=LAYERS), 1, 6)


def grouped(groups: tuple[tuple[int, ...], ...], bypass: int, wide: bool = True) -> Graph:
    after = Manager().run(GRAPH, [GroupLayers(groups, bypass, wide)])
    verify(after)
    return after


def by_hand(groups: tuple[tuple[int, ...], ...], bypass: int, tokens: Any) -> Any:
    """The logits by the formula, in torch, from the parts of the graph."""
    parts = layers_of(GRAPH, "test")
    inside = {n: group for group in groups for n in group}

    def delta(part: Any, x: Any) -> Any:
        ops = [op for op in GRAPH.ops if op.names[0] in part.ops]
        values = {part.source.name: x} | {
            op.names[0]: op.compute(torch) for op in GRAPH.ops if not op.operands
        }
        for op in ops:
            given = op.unpack(tuple(values[v.name] for v in op.operands))
            values[op.names[0]] = op.compute(torch, *given)
        return values[part.delta.name]

    constants = {op.names[0]: op.compute(torch) for op in GRAPH.ops if not op.operands}
    x = constants["embedding"][torch.from_numpy(tokens).long()]
    done = 0
    while done < len(parts):
        group = inside.get(done, (done,))
        attention = [delta(parts[n][0], x) for n in group]
        total = x + sum(attention)
        for j, n in enumerate(group):
            near = attention if bypass == ALL else attention[max(0, j - bypass) : j + 1]
            total = total + delta(parts[n][1], x + sum(near))
        x, done = total, done + len(group)
    ends = [op for op in GRAPH.ops if op.operands][-2:]
    normed = ends[0].compute(torch, x, constants["gain"])
    return ends[1].compute(torch, normed, constants["embedding"], None).numpy()


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("bypass", [0, 1, 2, ALL])
@pytest.mark.parametrize("groups", [((1, 2),), ((0, 1), (2, 3)), ((0, 1, 2),)])
def test_groups_compute_their_formula(
    groups: tuple[tuple[int, ...], ...], bypass: int, wide: bool
) -> None:
    (found,) = run_float(grouped(groups, bypass, wide), [TOKENS[:1]])
    assert distance([by_hand(groups, bypass, TOKENS[:1])], [found]) < 1e-5


def test_wide_groups_have_fewer_and_wider_ops() -> None:
    before, after = (
        Counter(op.mnemonic for op in g.ops) for g in (GRAPH, grouped(((0, 1), (2, 3)), ALL))
    )
    for mnemonic in ("attention", "rope", "silu", "add"):
        assert after[mnemonic] == before[mnemonic] // 2
    assert after["linear"] == (before["linear"] - 1) // 2 + 1
    (first, *_) = (op for op in grouped(((0, 1),), 0).ops if isinstance(op, Attention))
    assert (first.heads, first.kv_heads) == (8, 4)
    apart = Counter(op.mnemonic for op in grouped(((0, 1),), 0).ops)
    assert apart["linear"] == before["linear"] - 3 and apart["silu"] == before["silu"]


def test_unlike_members_stay_apart() -> None:
    """Of one model with another number of heads in one layer."""

    first = next(op for op in GRAPH.ops if isinstance(op, Attention))

    def halved(op: Op, builder: Builder) -> Op:
        return (
            replace(op, scale=0.5) if isinstance(op, Attention) and op.names == first.names else op
        )

    manager = Manager()
    after = manager.run(GRAPH.mapped(halved), [GroupLayers(((0, 1),))])
    (record,) = manager.records
    assert "its sub-layers have other attributes" in [miss.why for miss in record.misses]
    assert sum(isinstance(op, Attention) for op in after.ops) == LAYERS


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        (((0,),), r"group \[0\], two or more adjacent layers"),
        (((0, 2),), r"group \[0, 2\], two or more adjacent layers"),
        (((0, 1), (1, 2)), r"layers \[0, 1, 1, 2\], different ones from 0 to 3"),
        (((3, 4),), r"layers \[3, 4\], different ones from 0 to 3"),
    ],
)
def test_groups_that_are_none(groups: tuple[tuple[int, ...], ...], why: str) -> None:
    with pytest.raises(PassError, match=why):
        grouped(groups, 1)


def test_sublayers_of_a_decoder() -> None:
    found = sublayers_of(GRAPH, "test")
    assert [one.kind for one in found] == [ATTENTION, MLP] * LAYERS
    assert all(one.source == one.stream for one in found)
    assert found[1].stream == found[0].sum


def test_groups_are_those_with_the_greatest_similarity() -> None:
    rng = np.random.default_rng(0)
    for count, members, most in ((7, 2, 2), (8, 3, 2), (6, 2, 9)):
        alike = rng.uniform(0, 1, count - 1).tolist()
        alike[2] = None
        found = choose_groups(alike, members, most)
        starts = [i for i in range(count - members + 1) if None not in alike[i : i + members - 1]]
        every = [
            c for k in range(most + 1) for c in combinations(starts, k)
            if all(b - a >= members for a, b in pairwise(c))
        ]  # fmt: skip
        size = max(map(len, every))

        def total(c: Any, alike: Any = alike, members: int = members) -> float:
            return sum(sum(alike[i : i + members - 1]) for i in c)

        best = max((c for c in every if len(c) == size), key=total)
        assert [group[0] for group in found] == list(best)


def test_a_removed_sublayer_is_its_input() -> None:
    names = tuple(one.name for one in sublayers_of(GRAPH, "test"))
    after = Manager().run(GRAPH, [SkipLayers(names)])
    assert [op.mnemonic for op in after.ops if op.operands] == ["take", "rms_norm", "linear"]
    with pytest.raises(PassError, match="%x is no sum of a sub-layer, one of middle0, end0, "):
        Manager().run(GRAPH, [SkipLayers(("x",))])


IDS = np.random.default_rng(1).integers(0, 40, (8, 6))
REQUESTS: dict[str, dict[str, Any]] = {
    "left out": {"skip": Skip(0.3, samples=2)},
    "side by side": {"concurrency": Concurrency(2, 1.0, ALL)},
    "both": {"concurrency": Concurrency(groups=((1, 2),), bypass=0), "skip": Skip(0.1, "angle")},
}


@cache
def net_of(name: str) -> LanguageNet:
    """Threads take small pieces of it."""
    with patch.object(dispatch, "THREAD_BYTES", 64):
        return qir.compile_lm(GRAPH, calibration=IDS, max_tokens=6, prefill=3, **REQUESTS[name])


def reads_as_the_interpreter(net: LanguageNet, graph: Graph) -> bool:
    """In chunks and token by token, against the interpreter of the whole graph."""
    (want,) = dequantize_outputs(graph, interpret(graph, [IDS[:1].astype(np.int32)]))
    sequence = net.new_sequence()
    each = [net.decode(int(i), sequence) for i in IDS[0]]
    return np.array_equal(net.logits(IDS[0]), want[0]) and np.array_equal(each, want[0])


ONE = ("left out", "side by side")  # of two rewrites; `both` has them together


@pytest.mark.parametrize("name", ["both", *(pytest.param(n, marks=pytest.mark.full) for n in ONE)])
def test_a_shallower_decoder_is_compiled(name: str) -> None:
    net = net_of(name)
    assert reads_as_the_interpreter(net, net.stages["integer"])
    report = net.report()
    assert report.depth is not None and report.depth.lines()
    for line in report.depth.lines():
        assert line in str(report) and line in report.html()
    assert type(report).from_json(report.to_json()) == report


@pytest.mark.parametrize("threads", [2, 3])
def test_layers_side_by_side_run_on_threads(threads: int) -> None:
    net = net_of("both")
    session = runtime.Session(net.session.loaded, threads=threads)
    other = LanguageNet(session, net.stages, net.report(), net.entries)
    assert reads_as_the_interpreter(other, net.stages["integer"])
    for entry in session.entries.values():
        downs = [step for step in entry.steps if "scale_rows" in step["title"]]
        assert len({step["job"] for step in downs}) < len(downs)
        branches = Counter(tuple(step["branch"]) for step in entry.steps if "branch" in step)
        long = [fork for (fork, _), count in branches.items() if count >= 4]
        assert len(long) > len(set(long))  # the MLPs of the two layers


@pytest.mark.parametrize("target", ["c", pytest.param("aarch64", marks=pytest.mark.full)])
def test_a_shallower_decoder_on_other_machines(target: str) -> None:
    if target != "c":
        need_emulator(target)
    net = net_of("both")
    loaded = runtime.from_files(build(net.entries, target, "small").files)
    session = runtime.opened(loaded, emulate=target != "c")
    other = LanguageNet(session, net.stages, net.report(), net.entries)
    assert reads_as_the_interpreter(other, net.stages["integer"])


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"skip": 0}, "skip: share is 0, above 0 and below 1 is needed"),
        ({"skip": Skip}, "skip: share is <class"),
        ({"concurrency": 1}, "concurrency: members is 1, 2 or more is needed"),
        ({"concurrency": 5}, "concurrency: no 5 adjacent layers within share 0.5 of 4"),
    ],
)
def test_requests_that_are_none(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(PassError, match=why):
        qir.compile(GRAPH, calibration=[TOKENS], **asked)


def test_norms_behind_sums_are_refused() -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    with pytest.raises(PassError, match="the stream goes on from this norm and not from the sum"):
        qir.compile(
            layer,
            calibration=[np.zeros((4, 5, 16), np.float32)],
            skip=0.5,
            inputs=[torch.zeros(1, 5, 16)],
        )


class Block(torch.nn.Module):
    """As of GPT-2 and ViT: layer norms and biases, one projection for q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(16) for _ in range(2)])
        sizes = ((16, 48), (16, 16), (16, 32), (32, 16))
        self.qkv, self.o, self.up, self.down = (torch.nn.Linear(*size) for size in sizes)

    def forward(self, x: Any) -> Any:
        q, k, v = (
            y.view(1, 5, 2, 8).transpose(1, 2) for y in self.qkv(self.norms[0](x)).split(16, -1)
        )
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(y.transpose(1, 2).reshape(1, 5, 16))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norms[1](x))))


def test_an_encoder_with_norms_in_its_branches() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(Block(), Block()).eval()
    for p in net.parameters():
        p.data += torch.randn_like(p) / 10
    graph = Manager().run(imported(net, [torch.zeros(1, 5, 16)], None, None), CANONICALIZE)
    graph = Manager().run(graph, lower(graph))
    x = np.random.default_rng(0).standard_normal((1, 5, 16)).astype(np.float32)
    want, found = (
        run_float(Manager().run(graph, [GroupLayers(((0, 1),), ALL, wide)]), [x])
        for wide in (False, True)
    )
    assert distance(want, found) < 1e-5
    after = Manager().run(graph, [GroupLayers(((0, 1),), ALL)])
    assert sum(isinstance(op, Attention) for op in after.ops) == 1
    assert sum(isinstance(op, Linear) for op in after.ops) == 6


def test_layers_of_tokens_are_at_even_distances() -> None:
    """The example of the paper's authors, and ends."""
    assert kept_layers(30, 2) == (*range(0, 28, 2), 29)
    assert kept_layers(12, 1.2) == (0, *range(1, 9), 11)
    assert kept_layers(4, 1.5) == kept_layers(4, 9) == (0, 3)


def test_tokens_leave_out_layers() -> None:
    """A prompt, tokens, and a prompt behind them, against the interpreter with one memory."""
    ids = IDS
    net = qir.compile_lm(GRAPH, calibration=ids, max_tokens=6, prefill=3, skip=qir.DecodeSkip(1.5))
    assert list(net.entries) == ["decode", "prefill", "logits", "skip"]
    counts = Counter(op.mnemonic for op in net.entries["skip"].ops)
    assert (counts["attention_fixed"], counts["write_rows"]) == (2, 2 * LAYERS)
    memory, row = StateMemory(*net.entries.values()), ids[0].astype(np.int32)

    def called(entry: str, start: int, count: int) -> Any:
        graph = net.entries[entry]
        given = [row[None, start : start + count], np.array(start, np.int32)]
        given += [np.array(count - 1, np.int32)] * (entry == "prefill")
        (out,) = memory.call(graph, given)
        return dequantized(out, graph.outputs[0].type.quant)[0, -1]

    sequence = net.new_sequence()
    assert np.array_equal(net.prefill(ids[0, :3], sequence), called("prefill", 0, 3))
    assert np.array_equal(net.decode(int(ids[0, 3]), sequence), called("skip", 3, 1))
    called("decode", 4, 1)
    whole = called("decode", 5, 1)
    assert np.array_equal(net.prefill(ids[0, 4:], sequence), whole)
    plain = net.logits(ids[0])
    assert not np.array_equal(whole, plain[-1])
    assert len(list(net.generate(ids[0, :2], 4))) == 4
    with pytest.raises(PassError, match="2 layers at speedup 4, all of them stay"):
        skipped_spans(float_graph(random_decoder(), 1, 6), 4)
    with pytest.raises(PassError, match="speedup is 1, above 1 is needed"):
        qir.DecodeSkip(1)
