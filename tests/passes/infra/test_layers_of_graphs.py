"""Layers of a graph, and the contract by which those of two graphs are the same: one name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.text.parser import parse
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.layers import bias_of, check_names, float_layers, layers_of, weights_of
from qir.passes.infra.manager import Manager
from qir.passes.quantize.correct_bias import CorrectBias
from qir.passes.quantize.quantize_graph import QuantizeGraph
from qir.passes.rounding.column_methods import Gptq

NET = parse(
    """graph @net stage=transformed (%x: tensor<1x2xf32>, %v: tensor<2x2xf32>) {
      %w = constant() {value = data<float32[2x2], 1.0 -0.375 0.25 0.5>, elem = f32} :
        tensor<2x2xf32>
      %b = constant() {value = data<float32[2], 0.5 -0.25>, elem = f32} : tensor<2xf32>
      %a = linear(%x, %w, %b) : tensor<1x2xf32>
      %y = linear(%a, %w, _) : tensor<1x2xf32>
      %z = linear(%x, %v, _) : tensor<1x2xf32>
      return %y, %z
    }"""
)
ALONE = replace(NET, inputs=NET.inputs[:1], ops=NET.ops[:4], outputs=NET.outputs[:1],
                output_names=("y",))  # fmt: skip
DATA = np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32)


def renamed(graph: Graph, name: str) -> Graph:
    """The graph with another name for one value."""
    op = graph.producers[name].named((f"{name}_new",))
    moved = {name: op.result}
    ops = tuple(
        op if o.names == (name,) else o.rebind(lambda v: moved.get(v.name, v)) for o in graph.ops
    )
    outputs = tuple(moved.get(v.name, v) for v in graph.outputs)
    return replace(graph, ops=ops, outputs=outputs)


def test_layers_weights_and_biases() -> None:
    assert [op.names[0] for op in layers_of(NET)] == ["a", "y", "z"]
    assert list(float_layers(NET)) == ["a", "y"]
    a, y, z = layers_of(NET)
    weights, bias = weights_of(NET, a), bias_of(NET, a)
    assert weights is not None and weights.tolist() == [[1.0, -0.375], [0.25, 0.5]]
    assert bias is not None and bias.tolist() == [0.5, -0.25]
    assert bias_of(NET, y) is None
    assert weights_of(NET, z) is None


def test_a_layer_of_another_name_is_said() -> None:
    graph = renamed(NET, "a")
    assert [(m.why, m.at) for m in check_names(graph, NET, "p")] == [
        ("the reference has no such layer", "a_new")
    ]
    assert check_names(NET, NET, "p") == []


@pytest.mark.parametrize("one", [CorrectBias, Gptq])
def test_a_reference_of_other_names_is_refused(one: type[CorrectBias] | type[Gptq]) -> None:
    """A pass that renames must not make the correction of biases do nothing in silence."""
    pairs = Manager().run(ALONE, [QuantizeGraph(calibrate(ALONE, DATA, "min-max"), 3)])
    other = renamed(renamed(ALONE, "a"), "y")
    with pytest.raises(PassError) as error:
        Manager().run(pairs, [one(reference=other, sample=(DATA,))])
    assert error.value.text == (
        f"pass {one.name}: none of 2 layers of graph @net is in its reference @net, the float graph"
        " whose values have the same names is needed"
    )
    if one is CorrectBias:
        manager = Manager()
        manager.run(pairs, [one(reference=renamed(ALONE, "a"), sample=(DATA,))])
        misses = [(m.why, m.at) for m in manager.records[-1].misses]
        assert ("the reference has no such layer", "a") in misses
