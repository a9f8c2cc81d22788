"""A softmax beside an output that carries a mask keeps its digits."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.ops import Add, Constant, Linear, Softmax
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER, quantize, transform

X = np.random.default_rng(0).normal(size=(48, 8, 8)).astype(np.float32)
ENOUGH = 20.0  # dB


def attention(mask: float, is_shown: bool) -> Graph:
    """Probabilities of 8 places for each of 8, later ones masked; the masked scores shown too."""
    b = Builder("attention", "canonical")
    x = b.input("x", Tensor((1, 8, 8), F32))
    w = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    scores = b.add(Linear(x, b.add(Constant.of(w)), None), "scores")
    later = np.triu(np.full((1, 8, 8), mask, np.float32), 1)
    masked = b.add(Add(scores, b.add(Constant.of(later), "mask")), "masked")
    y = b.add(Softmax(masked), "y")
    return b.finish([masked, y] if is_shown else [y])


@pytest.mark.parametrize("mask", [-1e4, -1e9, -3e38])
@pytest.mark.parametrize("is_shown", [False, True])
def test_probabilities_beside_a_masked_output(mask: float, is_shown: bool) -> None:
    graph, manager = attention(mask, is_shown), Manager(check=True)
    kinder = manager.run(graph, transform(graph, (X,)))
    integer = manager.run(manager.run(kinder, quantize(calibrate(kinder, X))), TO_INTEGER)
    power = noise = 0.0
    for row in X[:16, None]:
        expected = run_float(graph, [row])[-1]
        y = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [row])))[-1]
        power, noise = (
            power + float((expected**2).sum()),
            noise + float(((y - expected) ** 2).sum()),
        )
    assert 10 * np.log10(power / noise) > ENOUGH
    warnings = [w for record in manager.records for w in record.warnings]
    told = f"output %masked: reaches {-mask:.3g}, as a mask does, and has one scale"
    assert warnings == ([told] if is_shown else [])
