"""What is no plain array of numbers is refused, or has a stated meaning, wherever it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qir
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.torch_executor import run_float

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)
DATA = np.random.default_rng(0).uniform(-1, 1, (16, 8)).astype(np.float32)
MASK = X.max() == X
FLAT = nn.Linear(8, 4).eval()


@pytest.fixture(scope="module")
def net() -> qir.Net:
    return qir.compile(FLAT, calibration=DATA)


def masked() -> np.ma.MaskedArray[Any, Any]:
    return np.ma.MaskedArray(X, MASK)


WHERE: dict[str, Callable[[qir.Net, Any], object]] = {
    "call": lambda net, x: net(x),
    "call by name": lambda net, x: net({"input": x}),
    "integers": lambda net, x: net.run_integer(x),
    "session": lambda net, x: net.session(x),
    "session's integers": lambda net, x: net.session.run_integer(x),
    "calibration": lambda _, x: qir.compile(FLAT, calibration=x),
    "second batch": lambda _, x: qir.compile(FLAT, calibration=[DATA, x]),
    "batch by name": lambda _, x: qir.compile(FLAT, calibration=[DATA, {"input": x}]),
    "example": lambda _, x: qir.compile(FLAT, calibration=DATA, inputs=[x]),
    "interpreter": lambda net, x: interpret(net.stages["integer"], [x]),
    "border": lambda net, x: quantize_inputs(net.stages["integer"], [x]),
    "floats": lambda net, x: run_float(net.stages["imported"], [x]),
}


@pytest.mark.parametrize("where", WHERE)
def test_masked_elements_are_refused(net: qir.Net, where: str) -> None:
    """As a plain array they would take part with the numbers under the mask."""
    expected = "1 masked elements, a number for each is needed\nhint: x.filled.value. puts"
    with pytest.raises((qir.DataError, qir.runtime.DataError), match=expected):
        WHERE[where](net, masked())


def test_masked_elements_in_a_list_are_refused(net: qir.Net) -> None:
    with pytest.raises(qir.DataError, match="1 masked elements"):
        net(list(masked()))


def test_a_mask_of_nothing_serves(net: qir.Net) -> None:
    whole = np.ma.MaskedArray(X, np.zeros_like(MASK))
    assert np.array_equal(net(whole), net(X)) and np.array_equal(
        net(masked().filled(0)), net(X * ~MASK)
    )
    qir.compile(FLAT, calibration=[DATA, whole])


NO_NUMBERS = {
    "objects": X.astype(object),
    "complex numbers": X.astype(np.complex64),
    "texts": X.astype(str),
    "bytes": X.astype("S"),
    "dates": np.zeros((1, 8), "M8[s]"),
    "durations": np.zeros((1, 8), "m8[s]"),
    "records": np.zeros((1, 8), [("a", "f4")]),
    "truths": X > 0,
    "nothing": None,
    "a set": {1.0},
    "a generator": (x for x in X),
    "ragged rows": [[1.0, 2.0], [3.0]],
    "sparse": torch.tensor(X).to_sparse(),
    "without data": torch.zeros(1, 8, device="meta"),
    "bfloat16": torch.tensor(X).bfloat16(),
    "quantized": torch.quantize_per_tensor(torch.tensor(X), 0.1, 0, torch.qint8),
    "complex tensor": torch.tensor(X).cfloat(),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_holds_no_numbers_is_refused(net: qir.Net, kind: str) -> None:
    x = NO_NUMBERS[kind]
    with pytest.raises(qir.DataError, match=r"^input.* (is|are) needed$"):
        net(x)
    with pytest.raises(qir.DataError, match=r"^input.* (is|are) needed$"):
        net.run_integer(x)
    with pytest.raises(qir.DataError, match=r"^calibration batch 1: .* (is|are) needed$"):
        qir.compile(FLAT, calibration=[DATA, (x,)])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "g"])
def test_any_float_serves(net: qir.Net, dtype: str) -> None:
    """Each is rounded to float32, as the model's inputs are."""
    x = (np.round(X * 64) / 64).astype(dtype)  # exact in 16 bits
    assert np.array_equal(net(x), net(x.astype(np.float32)))
    qir.compile(FLAT, calibration=[DATA, x])


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_examples_of_another_byte_order_serve(dtype: str) -> None:
    data = DATA.astype(dtype)
    assert np.array_equal(
        qir.compile(FLAT, calibration=data)(X), qir.compile(FLAT, calibration=data.astype("f4"))(X)
    )


def test_examples_that_torch_has_no_type_for_are_refused() -> None:
    with pytest.raises(qir.FrontendError, match=r"example input 0: array of float\d+, a torch.Ten"):
        qir.compile(FLAT, calibration=DATA.astype(np.longdouble))
    nested = torch.nested.nested_tensor([torch.zeros(8)])
    with pytest.raises(
        qir.DataError, match=r"a nested Tensor: its samples have shapes of their own"
    ):
        qir.compile(FLAT, calibration=nested)
    with pytest.raises(qir.DataError, match=r"its samples cannot be selected .Could not run 'aten"):
        qir.compile(FLAT, calibration=torch.tensor(DATA).to_sparse())


def test_what_is_not_finite_is_the_end_of_the_range(net: qir.Net) -> None:
    """NaN becomes the least stored value; infinities, and floats beyond float32, are clamped."""
    low, high = net(np.full_like(X, -1e9)), net(np.full_like(X, 1e9))
    assert not np.array_equal(low, high)
    for value, y in ((np.nan, low), (-np.inf, low), (-1e300, low), (np.inf, high), (1e300, high)):
        assert np.array_equal(net(np.full(X.shape, value)), y)
