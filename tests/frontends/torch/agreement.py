"""The law of the torch frontend: an imported graph computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from qir.frontends.torch import import_torch
from qir.ir.graph import Graph
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
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
    """Standard normal tensors, times 3: wide enough for the ends of relu6 and hard-swish."""
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=random) * 3 for shape in shapes)


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Parameters and running statistics that are neither 0 nor 1; in inference mode."""
    random = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() <= 1:
            values = torch.rand(tensor.shape, generator=random) + 0.5
            tensor.data.copy_(values if "var" in name or "weight" in name else values - 1)
    return module.eval()


class Many(torch.nn.Module):
    """Modules side by side, each on its own input: one export for a whole family."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self.all = torch.nn.ModuleList(modules)

    def forward(self, *xs: torch.Tensor) -> Any:
        return [module(x) for module, x in zip(self.all, xs, strict=True)]


def agree(
    module: Any, xs: tuple[torch.Tensor, ...], tolerance: float = 1e-4, imported: Any = None
) -> Graph:
    """Import, verify, print and parse, run; compare every output with the module's."""
    graph = checked(import_torch(module if imported is None else imported, xs))
    compare(graph, xs, outputs_of(module, xs), tolerance)
    return graph


def agree_all(modules: Mapping[str, torch.nn.Module], xs: tuple[torch.Tensor, ...]) -> None:
    """`agree` for many modules of one input each; says every one that differs."""
    graph = checked(import_torch(Many(modules.values()), xs))
    found = iter(run_float(graph, [x.numpy() for x in xs]))
    wrong = []
    for (name, module), x in zip(modules.items(), xs, strict=True):
        for expected in outputs_of(module, (x,)):
            actual = next(found)
            if actual.shape != expected.shape or not np.allclose(
                actual, expected, rtol=1e-4, atol=1e-4
            ):
                difference = np.abs(actual - expected).max()
                wrong.append(f"{name}: {actual.shape} for {expected.shape}, {difference}")
    assert not wrong


def outputs_of(module: Any, xs: tuple[torch.Tensor, ...]) -> list[Any]:
    with torch.no_grad():
        made = torch.utils._pytree.tree_leaves(module(*(x.clone() for x in xs)))
    return [y.numpy() for y in made]


def checked(graph: Graph) -> Graph:
    """The graph keeps the rules, and its text reads back to it."""
    assert graph.stage == "imported"
    verify(graph)
    assert parse(text(graph), blobs(graph)) == graph
    return graph


def compare(
    graph: Graph, xs: tuple[torch.Tensor, ...], wanted: list[Any], tolerance: float = 1e-4
) -> None:
    outputs = run_float(graph, [x.numpy() for x in xs])
    assert len(outputs) == len(wanted) == len(graph.output_names)
    for actual, expected in zip(outputs, wanted, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def mnemonics(graph: Graph) -> list[str]:
    """The ops that compute, without constants."""
    return [op.mnemonic for op in graph.ops if op.mnemonic != "constant"]
