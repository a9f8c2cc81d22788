"""Integers of the run: ids that embeddings look up, and masks of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qir.frontends.torch import import_torch
from qir.ir.errors import FrontendError
from qir.ir.types import F32, I32, U1
from tests.frontends.torch.agreement import Function, agree, inputs, mnemonics

X = inputs((2, 4))[0]
BITS = torch.tensor([[True, False, True, True], [False, False, True, True]])
SHOWN = torch.tensor([True, True, False, True])


def test_ids_are_inputs_of_32_bits() -> None:
    for kind in (torch.int32, torch.int64):
        graph = agree(nn.Embedding(5, 3), (torch.tensor([[0, 4, 2]], dtype=kind),))
        assert graph.inputs[0].type.elem == I32
        assert mnemonics(graph) == ["take"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: x * (m & SHOWN),
        lambda x, m: x * (m | SHOWN),
        lambda x, m: x * ~m,
        lambda x, m: x * torch.logical_not(m).float(),
        lambda x, m: x * m.to(x.dtype),
        lambda x, m: x + torch.where(m, 0.5, SHOWN.float()),
        lambda x, m: x + (1 - m.float()) * -1e4,
    ],
    ids=["and", "or", "not", "logical-not", "cast", "where", "added"],
)
def test_booleans_of_the_run(function: Callable[..., Tensor]) -> None:
    graph = agree(Function(function), (X, BITS))
    assert [v.type.elem for v in graph.inputs] == [F32, U1]


class Masked(nn.Module):
    """A function of scores and an input called a mask."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.function(x, mask)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: F.softmax(x.masked_fill(m == 0, -torch.inf), -1),
        lambda x, m: F.softmax(torch.where(m != 1, -1e9, x), -1),
        lambda x, m: F.softmax(torch.where(m == 1, x, -1e9), -1),
        lambda x, m: F.softmax(x + torch.where(m.bool(), 0.0, -torch.inf), -1),
        lambda x, m: F.scaled_dot_product_attention(x, x, x, m[:, 2:].bool()),
        lambda x, m: F.softmax(x * m.to(torch.int32).float(), -1),
    ],
    ids=["filled", "hidden", "shown", "added", "attention", "cast"],
)
def test_integers_called_a_mask(function: Callable[..., Tensor]) -> None:
    graph = agree(Masked(function), (X, (BITS | ~SHOWN).long()))
    assert [v.type.elem for v in graph.inputs] == [F32, I32]


IDS = torch.tensor([[3, 0, 1, 1], [2, 3, 1, 2]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x, i: x * (i != 1).float() + (i == 2).float(),
        lambda x, i: x * (~(i > 1)).float() + (i <= 0).float(),
        lambda x, i: x * ((i >= 2) & (i < 3)).float() + i.bool().float(),
        lambda x, i: F.scaled_dot_product_attention(x, x, x, i[:, :2] != 0),
    ],
    ids=["equal", "greater", "between", "attention"],
)
def test_ids_that_are_compared(function: Callable[..., Tensor]) -> None:
    agree(Function(function), (X, IDS))


TABLE = torch.randn(9, 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda m: (m.cumsum(1) + 0) * m + 1,
        lambda m: m.cumsum(-1) * m - 1 + 2,
        lambda m: 3 + m.cumsum(1),
    ],
    ids=["roberta", "opt", "counted"],
)
def test_positions_of_ids_that_count(function: Callable[..., Tensor]) -> None:
    def places(x: Tensor, i: Tensor) -> Tensor:
        return x[..., None] + F.embedding(function((i != 1).int()).long(), TABLE)

    def masked(x: Tensor, mask: Tensor) -> Tensor:
        return x[..., None] + F.embedding(function(mask), TABLE)

    assert "positions" in mnemonics(agree(Function(places), (X, IDS)))
    assert "positions" in mnemonics(agree(Masked(masked), (X, BITS.long())))


def refusal(function: Callable[..., Tensor], *xs: Tensor) -> str:
    with pytest.raises(FrontendError) as caught:
        import_torch(Function(function), xs)
    return str(caught.value)


def test_refusals() -> None:
    ids = torch.ones(2, 4, dtype=torch.int64)
    text = refusal(lambda x, i: x * i.float(), X, ids)
    assert "ids as floats, booleans, or an input called mask, are needed" in text
    text = refusal(lambda x, i: x * (x == 1), X, ids)
    assert "a condition on values of the run, relu, clamp, maximum or minimum, or a mask" in text
    text = refusal(lambda x, i: x * (i > 2.5).float(), X, ids)
    assert "a comparison of integers with 2.5, a whole number is needed" in text
    text = refusal(lambda x, i: x * i.cumsum(1), X, ids)
    assert "sums up to each element, those of a mask, over tokens, are needed" in text
    text = refusal(lambda x, i: x * (i == 1).cumsum(0), X, ids)
    assert "sums up to each element, those of a mask, over tokens, are needed" in text
    text = refusal(lambda x, m: torch.where(m, x, 2 * x), X, BITS)
    assert "a choice between values of the run, constants, or one of -inf, are needed" in text
    text = refusal(lambda x, i: x + torch.gather(X, 1, i), X, ids)
    assert "gather by indices of the run, index_select by constants is needed" in text


def test_a_constant_that_is_one_number_is_gathered_by_any_index() -> None:
    ids = torch.tensor([[0, 3]])
    agree(Function(lambda x, i: x[:1, :2] + torch.gather(torch.full((1, 4), 2.5), 1, i)), (X, ids))


def test_inputs_by_the_names_of_arguments() -> None:
    net = Masked(lambda x, m: x * m.float())
    graph = import_torch(net, {"mask": BITS, "x": X})
    assert [v.name for v in graph.inputs] == ["mask", "x"]
