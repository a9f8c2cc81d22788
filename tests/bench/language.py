"""Language models as canonical float graphs, with rows of tokens to evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.models import imported
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
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
