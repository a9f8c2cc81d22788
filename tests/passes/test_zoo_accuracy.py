"""Integer accuracy of a trained network, by the exact interpreter."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qir.frontends.onnx import import_onnx
from qir.ir.graph import Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.types import Array
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Miss
from qir.passes.infra.rebatch import rebatch
from qir.passes.pipelines import CANONICALIZE, TO_INTEGER, quantize, transform
from qir.passes.quantize.place_rows import row_passes
from qir.passes.transform.channel_ranges import first_samples


def integers(case: Any) -> Graph:
    """The integer graph of a model of the zoo, quantized as compile does."""
    manager = Manager()
    graph = manager.run(import_onnx(case.model), CANONICALIZE)
    sample, batches = first_samples(graph, case.calibration())
    graph = manager.run(graph, transform(graph, sample))
    ranges, rows = calibrate(graph, batches), row_passes(graph)
    simulated = manager.run(graph, quantize(ranges, reference=graph, sample=sample, rows=rows))
    return manager.run(simulated, TO_INTEGER)


def outputs_of(graph: Graph, x: Array, most: int) -> Array:
    """The outputs on all of x, at most so many samples at a time."""
    outputs = []
    for part in np.array_split(x, max(1, len(x) // most)):
        whole = rebatch(graph, len(part))
        assert not isinstance(whole, Miss), whole
        outputs.append(
            dequantize_outputs(whole, interpret(whole, quantize_inputs(whole, [part])))[0]
        )
    return np.concatenate(outputs)


@pytest.mark.parametrize(("name", "least"), [("dscnn", 90.1), ("autoencoder", 0.885)])
def test_integers_are_as_good_as_floats(zoo: ModuleType, name: str, least: float) -> None:
    case = zoo.ZOO[name]
    assert case.score(outputs_of(integers(case), case.inputs(), 500)) >= least


def test_a_language_model_loses_little(zoo: ModuleType) -> None:
    """Nats per token on all 8,192 tokens; the float model has 1.6174."""
    case = zoo.ZOO["stories260k"]
    assert case.score(outputs_of(integers(case), case.inputs(), 64)) <= 1.621
