"""Integer accuracy of a trained network, by the exact interpreter."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from qir.frontends.onnx import import_onnx
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Miss
from qir.passes.infra.rebatch import rebatch
from qir.passes.pipelines import CANONICALIZE, TO_INTEGER, quantize, transform
from qir.passes.transform.channel_ranges import first_samples


@pytest.mark.parametrize(("name", "least"), [("dscnn", 90.1), ("autoencoder", 0.885)])
def test_integers_are_as_good_as_floats(zoo: ModuleType, name: str, least: float) -> None:
    case = zoo.ZOO[name]
    manager = Manager()
    graph = manager.run(import_onnx(case.model), CANONICALIZE)
    sample, batches = first_samples(graph, case.calibration())
    graph = manager.run(graph, transform(graph, sample))
    simulated = manager.run(
        graph, quantize(calibrate(graph, batches), reference=graph, sample=sample)
    )
    integer = manager.run(simulated, TO_INTEGER)
    x = case.inputs()
    outputs = []
    for part in np.array_split(x, max(1, len(x) // 500)):
        whole = rebatch(integer, len(part))
        assert not isinstance(whole, Miss), whole
        outputs.append(
            dequantize_outputs(whole, interpret(whole, quantize_inputs(whole, [part])))[0]
        )
    assert case.score(np.concatenate(outputs)) >= least
