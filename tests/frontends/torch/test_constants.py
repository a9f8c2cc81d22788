"""Constants: tied parameters, and those of the shape of a value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.frontends.torch.agreement import Function, agree, inputs


def test_a_tied_parameter_is_one_constant() -> None:
    linear = nn.Linear(8, 8, bias=False)
    graph = agree(nn.Sequential(linear, linear), inputs((2, 8)))
    assert [op.mnemonic for op in graph.ops].count("constant") == 1


CONSTANTS_OF_A_SHAPE = {
    "full_like": lambda x: torch.where(
        torch.ones(4, 4).triu(1).bool(), torch.full_like(x, -7.5), x
    ),
    "zeros_like": lambda x: x + torch.zeros_like(x) - 1,
    "ones_like": lambda x: x * torch.ones_like(x).tril(),
    "masked by ones_like": lambda x: x.masked_fill(
        torch.ones_like(x, dtype=torch.bool).triu(1), -7.5
    ),
    "new_full": lambda x: torch.cat([x, x.new_full((2, 4), 0.25)]),
    "new_zeros": lambda x: torch.cat([x.new_zeros(1, 4), x]),
    "new_ones": lambda x: torch.cat([x.new_ones(1, 4), x], 0),
}


@pytest.mark.parametrize("name", CONSTANTS_OF_A_SHAPE)
def test_constants_of_the_shape_of_a_value(name: str) -> None:
    agree(Function(CONSTANTS_OF_A_SHAPE[name]), inputs((4, 4)))
