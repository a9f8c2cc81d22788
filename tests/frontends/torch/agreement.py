"""The law of the torch frontend: the imported graph computes what the module computes, and reads back from text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from qir.frontends.torch import import_torch
from qir.ir.graph import Graph
from qir.ir.parser import parse
from qir.ir.printer import blobs, text
from qir.ir.torch_executor import run_float
from qir.ir.verify import verify


class Function(torch.nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *xs: torch.Tensor) -> Any:
        return self.function(*xs)


def inputs(*shapes: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Standard normal tensors, times 3: wide enough for the ends of relu6, hard-swish and the like."""
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=random) * 3 for shape in shapes)


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Parameters and running statistics that are neither 0 nor 1; in inference mode."""
    random = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() <= 1:
            made = torch.rand(tensor.shape, generator=random) + 0.5
            tensor.data.copy_(made if "var" in name or "weight" in name else made - 1)
    return module.eval()


def agree(
    module: Any, xs: tuple[torch.Tensor, ...], tolerance: float = 1e-4, imported: Any = None
) -> Graph:
    """Import, verify, print and parse, run; hold every output against the module's own."""
    graph = import_torch(module if imported is None else imported, xs)
    assert graph.stage == "imported"
    verify(graph)
    assert parse(text(graph), blobs(graph)) == graph
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(module(*(x.clone() for x in xs)))
    found = run_float(graph, [x.numpy() for x in xs])
    assert len(found) == len(wanted) == len(graph.output_names)
    for got, want in zip(found, wanted, strict=True):
        assert got.shape == tuple(want.shape)
        np.testing.assert_allclose(got, want.numpy(), rtol=tolerance, atol=tolerance)
    return graph


def mnemonics(graph: Graph) -> list[str]:
    """The ops that compute, without constants."""
    return [op.mnemonic for op in graph.ops if op.mnemonic != "constant"]
