"""Ops without an integer form: all of them, by name and place, before calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import qir
from qir.ir.errors import LowerError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Value
from qir.ir.ops import (
    Constant,
    Dequantize,
    Linear,
    Pad,
    PadMode,
    Pow,
    PRelu,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
)  # fmt: skip
from qir.ir.types import F32, U8, Array, Quant, Tensor
from qir.passes.quantize.placement import plan_quantization


def powers(count: int) -> Graph:
    """`count` powers of two activations, a linear op before each."""
    b = Builder("net", "canonical")
    x: Value = b.input("x", Tensor((1, 4), F32))
    w = b.add(Constant.of(np.eye(4, dtype=np.float32)))
    for i in range(count):
        y = b.add(Relu(b.add(Linear(x, w, None))))
        x = b.add(Pow(x, y, loc=Loc(f"model.py:{i}")), f"power{i}")
    return b.finish([x])


def test_every_op_without_an_integer_form_is_listed_with_its_place_and_reason() -> None:
    with pytest.raises(LowerError) as e:
        plan_quantization(powers(2))
    assert str(e.value).splitlines() == [
        "graph @net: no integer form for 2 ops",
        *(
            f"  pow %power{i} (model.py:{i}): its operands are a quantized value and a clamped sum:"
            " functions of one quantized value are needed"
            for i in range(2)
        ),
        "hint: replace these ops in the model, or leave them outside of it",
    ]


def test_why_an_op_has_no_integer_form() -> None:
    b = Builder("net", "transformed")
    x = b.input("x", Tensor((1, 4), F32))
    kind = Quant.per_axis(U8, np.full(4, 0.1), 0, axis=1)
    axis = b.add(Dequantize(b.add(Quantize(x, kind, Rounding.HALF_EVEN), "axis")))
    other = b.input("other", Tensor((1, 4), F32))
    slope = b.add(PRelu(x, b.add(Sigmoid(other)), loc=Loc("m.py:1")), "slope")
    pad = b.add(Pad(x, (0, 1), (0, 0), (0, 0), PadMode.CONSTANT, -3.0), "pad")
    w = b.add(Constant.of(np.eye(4, dtype=np.float32)))
    bias = b.add(Linear(x, w, b.add(Reshape(other, (4,)))), "bias")
    graph = b.finish([axis, slope, pad, bias])
    with pytest.raises(LowerError) as e:
        plan_quantization(graph)
    assert str(e.value).splitlines()[1:-1] == [
        "  quantize %axis: quantized along axis 1: one scale is needed for activations, or one zero"
        " point and sums along the last axis",
        "  prelu %slope (m.py:1): operand %sigmoid is a function of a quantized value of shape"
        " [1, 4], a constant for each channel is needed",
        "  pad %pad: padding holds -3, 0 is needed",
        "  linear %bias: bias %reshape is computed, a constant is needed",
    ]


def test_at_most_twenty_are_shown_and_the_rest_counted() -> None:
    with pytest.raises(LowerError) as e:
        plan_quantization(powers(31))
    lines = str(e.value).splitlines()
    assert lines[0] == "graph @net: no integer form for 31 ops"
    assert len(lines) == 23 and lines[21] == "  ... and 11 more"


def test_compile_refuses_before_it_runs_the_calibration_data() -> None:
    results = []

    def batches() -> Iterator[Array]:
        for i in range(100):
            results.append(i)
            yield np.ones((1, 4), np.float32)

    with pytest.raises(LowerError, match="no integer form for 1 op\n  pow %power0"):
        qir.compile(powers(1), calibration=batches())
    assert len(results) <= 1  # the first one is looked at for its shape
