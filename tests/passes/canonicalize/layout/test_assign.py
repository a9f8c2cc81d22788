"""The layouts that Layouts chooses: never more bytes transposed than the model does."""

from __future__ import annotations

import pytest

from qir.ir.graph import Graph
from qir.ir.ops import Quantize, Transpose
from qir.ir.text.parser import parse
from qir.passes.canonicalize.layout.assign import Layouts, size_bytes
from qir.passes.canonicalize.layout.move_transposes import MoveTransposes
from qir.passes.canonicalize.layout.permutations import is_free
from qir.passes.infra.manager import Manager
from tests.passes.float_graphs import FloatGraphs


def transposed_bytes(graph: Graph) -> int:
    return sum(
        size_bytes(op.x)
        for op in graph.ops
        if isinstance(op, Transpose) and not is_free(op.x.type.shape, op.perm)
    )


@pytest.mark.parametrize("pairs", [False, True])
def test_no_more_bytes_are_transposed_than_before(pairs: bool) -> None:
    fewer = 0
    for seed in range(80):
        graph = FloatGraphs(seed, pairs).graph(3 + seed % 14).without_dead_code()
        before = transposed_bytes(graph)
        after = transposed_bytes(Manager().run(graph, [MoveTransposes()]))
        assert after <= before, seed
        fewer += after < before
    assert fewer >= 20


def test_a_pair_of_layers_shares_its_layout() -> None:
    graph = parse(
        """graph @net stage=imported (%x: tensor<1x2x3x4xf32>) {
          %a = transpose(%x) {perm = [0, 2, 3, 1]} : tensor<1x3x4x2xf32>
          %b = max_pool(%a) {kernel = [2, 2], stride = [1, 1], pad = [0, 0, 0, 0], dilation = [1, 1]} : tensor<1x2x3x2xf32>
          %c = transpose(%b) {perm = [0, 3, 1, 2]} : tensor<1x2x2x3xf32>
          %d = relu(%c) : tensor<1x2x2x3xf32>
          %e = transpose(%d) {perm = [0, 2, 3, 1]} : tensor<1x2x3x2xf32>
          %f = max_pool(%e) {kernel = [2, 2], stride = [1, 1], pad = [0, 0, 0, 0], dilation = [1, 1]} : tensor<1x1x2x2xf32>
          return %f
        }"""  # noqa: E501
    )
    layouts = Layouts(graph)
    values = {v.name: v for v in graph.values}
    # %d stands channels last, as the pools around it need: transposed by (0, 2, 3, 1)
    assert layouts.of(values["d"]) == (0, 2, 3, 1)
    assert layouts.of(values["f"]) == layouts.of(values["x"]) == (0, 1, 2, 3)
    after = Manager().run(graph, [MoveTransposes()])
    assert [op.mnemonic for op in after.ops] == ["transpose", "max_pool", "relu", "max_pool"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["quantize", "transpose", "max_pool"], ["quantize", "transpose", "max_pool"]),
        (["transpose", "quantize", "max_pool"], ["quantize", "transpose", "max_pool"]),
    ],
)
def test_stored_integers_are_transposed_rather_than_floats(
    before: list[str], after: list[str]
) -> None:
    """Of two places that move as many elements, the one that moves fewer bytes."""
    q = "q<u8, 0.5:0>"
    lines = {
        "quantize": "quantize(%{x}) {{to = q<u8, 0.5:0>, rounding = half_even}}",
        "transpose": "transpose(%{x}) {{perm = [0, 2, 3, 1]}}",
        "max_pool": "max_pool(%{x}) {{kernel = [2, 2], stride = [1, 1], pad = [0, 0, 0, 0],"
        " dilation = [1, 1]}}",
    }
    shape, elem, body = "1x2x3x4", "f32", []
    for i, name in enumerate(before):
        elem = q if name == "quantize" else elem
        shape = {"transpose": "1x3x4x2", "max_pool": "1x2x3x2"}.get(name, shape)
        call = lines[name].format(x=f"v{i}")
        body.append(f"%v{i + 1} = {call} : tensor<{shape}x{elem}>")
    text = "\n".join(body)
    graph = parse(
        f"graph @net stage=imported (%v0: tensor<1x2x3x4xf32>) {{\n{text}\nreturn %v3\n}}"
    )
    result = Manager().run(graph, [MoveTransposes()])
    assert [op.mnemonic for op in result.ops] == after
    assert isinstance(result.ops[0], Quantize)
