"""Complex numbers between view_as_complex and view_as_real."""

from __future__ import annotations

import pytest
import torch

from qir.frontends.torch import import_torch
from qir.ir.errors import FrontendError
from tests.frontends.torch.agreement import Function, agree, inputs

XS = inputs((3, 4, 2), (3, 4, 2), (3, 4))
TURN = torch.polar(torch.ones(4), torch.arange(4.0))


def test_products() -> None:
    def function(a: torch.Tensor, b: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        z = torch.view_as_complex(a) * TURN * torch.view_as_complex(b) * real * 0.5
        return torch.view_as_real(z)

    agree(Function(function), XS)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda z: z.abs(), "complex numbers, view_as_real of their products is needed"),
        (lambda z: torch.view_as_real(z + TURN), "complex numbers, view_as_real of their"),
    ],
)
def test_refusals(function: object, why: str) -> None:
    module = Function(lambda x: function(torch.view_as_complex(x)))  # type: ignore[operator]
    with pytest.raises(FrontendError, match=why):
        import_torch(module, XS[:1])
