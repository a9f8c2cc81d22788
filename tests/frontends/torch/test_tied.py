"""Parameters that a model holds under several names."""

from __future__ import annotations

from torch import nn

from tests.frontends.torch.agreement import agree, inputs


def test_a_tied_parameter_is_one_constant() -> None:
    linear = nn.Linear(8, 8, bias=False)
    graph = agree(nn.Sequential(linear, linear), inputs((2, 8)))
    assert [op.mnemonic for op in graph.ops].count("constant") == 1
