"""Language models as canonical float graphs, with rows of tokens to evaluate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.ops import Attention
from qir.ir.types import Array
from qir.models import imported
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
from qir.passes.transform.attention_chains import Chain, chain_to, pairs_of
from qir.passes.transform.blocks.turned_weights import with_turned_weights
from tests.bench.models import zoo_module


def evaluated(name: str, rows: int, folder: Path) -> tuple[Graph, Array]:
    """The canonical graph of a model on one row, and `rows` rows of tokens (S, N)."""
    if name == "smollm2":
        model, ids = _smollm2(folder)
        graph = imported(model, [ids[:1]], None, None)
    else:
        case = zoo_module().ZOO[name]
        ids, graph = case.inputs(), imported(case.model, None, None, None)
    assert isinstance(graph, Graph)
    return Manager().run(graph, CANONICALIZE), ids[-rows:]


def _smollm2(folder: Path) -> tuple[Any, Array]:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    ggufs = sorted(folder.glob("*.gguf"))
    how = {"gguf_file": ggufs[0].name} if ggufs else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()
    return model, np.load(folder / "tokens.npy")


PAIRS = 4  # of each head that become large


def with_large_keys(graph: Graph, times: float) -> Graph:
    """The same model with some rotary pairs of keys larger, and those of queries smaller."""
    rows: dict[str, Callable[[Array], Array]] = {}
    rng = np.random.default_rng(0)
    for op in graph.ops:
        if isinstance(op, Attention):
            size = op.k.type.shape[-1] // op.kv_heads
            pairs = pairs_of(graph, op.k, size)
            by = np.ones((op.kv_heads, size))
            for head in by:
                for pair in rng.choice(len(pairs), PAIRS, replace=False):
                    head[list(pairs[pair])] = times
            repeated = np.repeat(by, op.heads // op.kv_heads, 0)
            for value, factor in ((op.k, by), (op.q, 1 / repeated)):
                chain = chain_to(graph, value)
                assert isinstance(chain, Chain) and chain.start == 0
                rows[chain.layer.names[0]] = partial(np.multiply, factor.reshape(-1, 1))
    return with_turned_weights(graph, rows, {}, "large-keys")
