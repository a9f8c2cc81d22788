"""Modules of transformers reach the canonical form, with the outputs they had."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch

from qir.driver import imported
from qir.ir.graph import Graph
from qir.ir.ops import Attention, Linear, Take
from qir.ir.torch_executor import run_float
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
from tests.passes.canonicalize.small_transformers import CASES


@cache
def canonical(name: str, attention: str) -> Graph:
    """The canonical graph, after its outputs were compared with the module's."""
    case = CASES[name]
    net, inputs = case.built(attention), case.inputs()
    graph = Manager().run(imported(net, inputs), CANONICALIZE)
    with torch.no_grad():
        wanted = net(**inputs)
    assert [v.name for v in graph.inputs] == list(inputs)
    outputs = run_float(graph, [x.numpy() for x in inputs.values()])
    for key, y in zip(graph.output_names, outputs, strict=True):
        expected = wanted[key].numpy()
        assert np.abs(y - expected).max() < 1e-4 * (1 + np.abs(expected).max()), key
    return graph


EAGER = ("bert-mask", "llama-mask", "swin", "whisper")
WAYS = [(name, "eager" if name in EAGER else "sdpa") for name in CASES]


@pytest.mark.parametrize(("name", "attention"), [*WAYS, ("gpt2", "eager"), ("vit", "eager")])
def test_layers_are_all_that_is_left(name: str, attention: str) -> None:
    case = CASES[name]
    counts = Counter(op.mnemonic for op in canonical(name, attention).ops)
    assert counts["attention"] == case.layers
    assert {op: counts[op] for op in case.counts} == case.counts
    assert counts["transpose"] + counts["reshape"] == case.moves
    for gone in ("softmax", "matmul", "rsqrt", "pow", "neg", "expand", "gather"):
        assert counts[gone] == 0, gone


def attentions(graph: Graph) -> list[Attention]:
    return [op for op in graph.ops if isinstance(op, Attention)]


def test_a_window_and_groups_of_heads() -> None:
    for op in attentions(canonical("mistral", "sdpa")):
        assert (op.heads, op.kv_heads, op.causal, op.window) == (4, 2, True, 4)


def test_a_mask_of_the_run_is_visible_alone() -> None:
    for name, causal in (("bert-mask", False), ("llama-mask", True)):
        for op in attentions(canonical(name, "eager")):
            assert op.bias is None and op.causal == causal
            assert op.visible is not None and op.visible.type.shape == (2, 1, 1, 10)


def test_relative_positions_are_a_bias() -> None:
    shapes = [op.bias and op.bias.type.shape for op in attentions(canonical("swin", "eager"))]
    assert shapes == [(1, 2, 16, 16), (16, 2, 16, 16), (1, 4, 16, 16), (4, 4, 16, 16)]


def test_a_tied_head_is_the_table_of_the_embedding() -> None:
    graph = canonical("gpt2", "sdpa")
    take = next(op for op in graph.ops if isinstance(op, Take))
    head = [op for op in graph.ops if isinstance(op, Linear)][-1]
    assert take.table == head.w
