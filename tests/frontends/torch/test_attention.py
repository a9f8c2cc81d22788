"""Scaled dot-product attention with every mask and layout of heads, against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qir.frontends.torch import import_torch
from qir.ir.errors import FrontendError
from tests.frontends.torch.agreement import Function, agree, inputs, mnemonics

ATTENTION = F.scaled_dot_product_attention
HEADS = (2, 4, 6, 8)
BOOLEAN = torch.rand((6, 6), generator=torch.Generator().manual_seed(1)) > 0.4
BOOLEAN.fill_diagonal_(True)
ADDED = torch.where(BOOLEAN, 0.0, -torch.inf)
HIDDEN_ROW = BOOLEAN & (torch.arange(6) != 2)[:, None]


class Attention(torch.nn.Module):
    """Attention with a mask of its own and settings."""

    def __init__(self, mask: Tensor | None = None, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mask", mask)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ATTENTION(q, k, v, self.mask, **self.settings)


@pytest.mark.parametrize(
    ("mask", "settings"),
    [
        (None, {}),
        (None, {"is_causal": True}),
        (None, {"scale": 0.25}),
        (BOOLEAN, {}),
        (BOOLEAN.expand(2, 1, 6, 6), {"scale": 2.0}),
        (HIDDEN_ROW, {}),
        (ADDED, {}),
        (torch.where(BOOLEAN, 0.5, -1e4), {}),
        (torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(2)), {}),
    ],
    ids=["none", "causal", "scale", "boolean", "per-sample", "hidden-row", "infinite", "large",
         "per-head"],
)  # fmt: skip
def test_masks(mask: Tensor | None, settings: dict[str, Any]) -> None:
    agree(Attention(mask, **settings), inputs(HEADS, HEADS, HEADS))


def test_a_mask_that_hides_nothing_adds_nothing() -> None:
    xs = inputs(HEADS, HEADS, HEADS)
    graph = agree(Attention(torch.ones(6, 6, dtype=torch.bool)), xs)
    assert mnemonics(graph) == mnemonics(agree(Attention(), xs))


def test_causal_attention_of_another_length_of_keys() -> None:
    shapes = ((1, 2, 4, 8), (1, 2, 7, 8), (1, 2, 7, 5))
    agree(Attention(is_causal=True), inputs(*shapes))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_fewer_heads_of_keys(heads: int) -> None:
    few = (2, heads, 6, 8)
    agree(Attention(BOOLEAN, enable_gqa=True), inputs(HEADS, few, few))


def test_a_mask_that_is_an_input_is_added() -> None:
    agree(Function(ATTENTION), inputs(HEADS, HEADS, HEADS, (6, 6)))


@pytest.mark.parametrize(
    "fill", [-torch.inf, torch.finfo(torch.float32).min, -1e9, -1e4], ids=str
)  # fmt: skip
@pytest.mark.parametrize("form", ["masked_fill", "where", "add"])
def test_masks_written_out(form: str, fill: float) -> None:
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "masked_fill": lambda s: s.masked_fill(~BOOLEAN, fill),
        "where": lambda s: torch.where(BOOLEAN, s, fill),
        "add": lambda s: s + torch.where(BOOLEAN, 0.0, fill),
    }
    module = Function(lambda q, k: torch.softmax(forms[form](q @ k.mT), -1))
    agree(module, inputs(HEADS, HEADS))


def test_an_infinite_fill_is_refused_where_its_result_is_read() -> None:
    with pytest.raises(FrontendError, match="the number -inf, a finite one is needed"):
        import_torch(Function(lambda x: x.masked_fill(~BOOLEAN, -torch.inf)), inputs((6, 6)))


def test_the_values_under_a_mask_do_not_matter() -> None:
    mask = torch.tensor([True, False, True, False])
    module = Function(lambda x: (torch.log(x).masked_fill(mask, 7.0), torch.where(mask, 1, 1 / x)))
    agree(module, (torch.tensor([[0.0, 1.0, 0.0, 0.0], [-1.0, 0.5, -0.0, 0.0]]),))


@pytest.mark.parametrize("lead", [(), (3,), (3, 4)], ids=str)
@pytest.mark.parametrize("shape", [(5,), (4, 1), (4, 5), (1, 1, 5), (3, 1, 1)], ids=str)
def test_where_of_every_broadcast(lead: tuple[int, ...], shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) > 0.5
    mask.view(-1)[:2] = torch.tensor([True, False])
    xs = inputs((3, 4, 5), (*lead, 5) if lead != (3,) else (1, 5))
    agree(Function(lambda a, b: torch.where(mask, a, b)), xs)
    agree(Function(lambda a, b: torch.where(mask, 2.5, b) + a.masked_fill(mask, -1)), xs)


def test_samples_stay_apart_under_a_mask() -> None:
    graph = agree(Attention(BOOLEAN), inputs(HEADS, HEADS, HEADS))
    assert "gather" not in mnemonics(graph)
    graph = agree(Function(lambda x: x.masked_fill(BOOLEAN, 0)), inputs((2, 6, 6)))
    gather = next(op for op in graph.ops if op.mnemonic == "gather")
    assert gather.axis == 1  # type: ignore[attr-defined]
    np.testing.assert_array_equal(gather.index.shape, (6, 6))  # type: ignore[attr-defined]
