"""Rules of op classes: a class without one takes that of the class it is derived from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qir.ir.graph import Builder
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import OPS, Op, Value, op
from qir.ir.ops import Lookup, Unary
from qir.ir.types import F32, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER, quantize


@pytest.fixture
def cube() -> Iterator[type[Op]]:
    @op("cube")
    class Cube(Unary):
        """y = x * x * x."""

        x: Value

        def compute(self, torch: Any, x: Any) -> Any:
            return x * x * x

    yield Cube
    del OPS["cube"]


def test_a_new_function_of_one_real_becomes_a_table(cube: Any) -> None:
    b = Builder("g", "transformed")
    graph = b.finish([b.add(cube(b.input("x", Tensor((1, 64), F32))), "y")])
    data = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    simulated = Manager().run(graph, quantize(calibrate(graph, data, "min-max")))
    integer = Manager().run(simulated, TO_INTEGER)
    assert [type(op) for op in integer.ops] == [Lookup]
    y = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [data])))[0]
    step = float(integer.outputs[0].type.quant.scale.array)
    slope = 3 * float(integer.inputs[0].type.quant.scale.array)
    assert np.abs(y - data**3).max() <= (step + slope) / 2 * 1.001
