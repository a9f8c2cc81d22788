"""What rules see in constant operands."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.graph import Builder
from qir.ir.op import Value
from qir.ir.ops import Constant, Mul
from qir.ir.types import F32, U8, Quant, Tensor
from qir.passes.infra.constants import (
    channel_constant,
    per_channel,
    real_constant,
    split_constant,
    uniform,
)
from qir.passes.infra.rewriter import Site


def site(*arrays: object, quant: Quant | None = None) -> tuple[Site, list[Value], Value]:
    b = Builder("g", "imported")
    x = b.input("x", Tensor((2, 3), F32))
    values = [b.add(Constant.of(np.asarray(a, np.float32) if quant is None else a, quant))
              for a in arrays]  # fmt: skip
    return Site(b.finish([x, *values]), "test"), values, x


@pytest.mark.parametrize(
    ("array", "number"),
    [(2.0, 2.0), ([[2.0, 2.0]], 2.0), ([2.0, 3.0], None), ([], None), ([np.nan, np.nan], None)],
)
def test_one_number_throughout(array: object, number: float | None) -> None:
    at, (c,), x = site(array)
    assert uniform(at, c) == number
    assert uniform(at, x) is uniform(at, None) is None


def test_stored_integers_are_no_reals() -> None:
    at, (c,), _ = site([1, 2], quant=Quant.per_tensor(U8, 0.5, 0))
    assert real_constant(at, c) is None and uniform(at, c) is None


@pytest.mark.parametrize(
    ("array", "row"),
    [
        (np.full((2, 3), 4.0), 4.0),
        (np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        (np.array([[[1.0, 2.0, 3.0]]]), [1.0, 2.0, 3.0]),
        (np.array([[1.0], [2.0], [3.0]]), None),
        (np.array([[1.0, 2.0, 3.0]] * 2), None),
        (np.zeros((0, 3)), None),
    ],
)
def test_one_for_each_channel(array: np.ndarray, row: object) -> None:  # type: ignore[type-arg]
    found = per_channel(array, 3)
    assert (None if found is None else found.tolist()) == row


def test_the_constant_of_a_product() -> None:
    at, (row, wide), x = site([1.0, 2.0, 3.0], np.ones((4, 2, 3)))

    def product(a: Value, b: Value) -> Mul:
        return Mul(a, b, names=("y",))

    for op, first in ((product(x, row), True), (product(row, x), False)):
        parts = split_constant(at, op)
        assert parts is not None and (parts[0], parts[2]) == (x, first)
        assert parts[1].tolist() == [1.0, 2.0, 3.0]
    assert split_constant(at, product(x, wide)) is None  # the result has another shape
    assert split_constant(at, product(row, row)) is split_constant(at, product(x, x)) is None


def test_a_constant_in_its_shortest_form() -> None:
    x = Value("x", Tensor((2, 3), F32))
    assert channel_constant(np.full(3, 0.5), x).value.array.tolist() == 0.5
    assert channel_constant(np.array([1.0, 2.0, 3.0]), x).value.array.tolist() == [1.0, 2.0, 3.0]
    assert channel_constant(np.zeros(0), x).value.shape == (0,)
