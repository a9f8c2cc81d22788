"""What a stage promises is what verify holds a graph to, and what passes may count on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from qir.ir.errors import PassError, VerifyError
from qir.ir.graph import Graph
from qir.ir.text.parser import parse
from qir.ir.verify import verify
from qir.passes.infra.manager import Manager, Pass, Pipeline, Record
from qir.passes.integer.to_integer import ToInteger

CANONICAL = """graph @g stage=canonical (%x: tensor<1x2xf32>) {{
  %w = constant() {{value = data<float32[2], 1.0 -0.0>, elem = f32}} : tensor<2xf32>
  %v = constant() {{value = data<float32[2], 1.0 0.0>, elem = f32}} : tensor<2xf32>
  {line}
  %a = mul(%x, %w) : tensor<1x2xf32>
  %b = mul(%a, %v) : tensor<1x2xf32>
  %y = {last} : tensor<1x2xf32>
  return %y, %b
}}
"""
SIMULATED = """graph @g stage=simulated (%x: tensor<1x2xf32>, %v: tensor<2x2xf32>) {{
  %q = quantize(%x) {{to = q<u8, 0.5:3>, rounding = half_even}} : tensor<1x2xq<u8, 0.5:3>>
  %d = dequantize(%q) : tensor<1x2xf32>
  %r = reshape(%d) {{shape = [1, 2]}} : tensor<1x2xf32>
  %f = relu(%d) : tensor<1x2xf32>
  %s = constant() {{value = data<int8[2x2], 1 2 3 4>, elem = q<i8, 1.0:0>}} :
    tensor<2x2xq<i8, 1.0:0>>
  %w = dequantize(%s) : tensor<2x2xf32>
  %c = constant() {{value = data<float32[2x2], 1.0 2.0 3.0 4.0>, elem = f32}} : tensor<2x2xf32>
  %b = constant() {{value = data<float32[2], 1.0 2.0>, elem = f32}} : tensor<2xf32>
  %y = linear({operands}) : tensor<1x2xf32>
  return %y, %f, %v
}}
"""


def faults(text: str) -> str:
    try:
        verify(parse(text))
    except VerifyError as e:
        return e.text
    return ""


@pytest.mark.parametrize(
    ("line", "last", "fault"),
    [
        ("", "mul(%b, %b)", ""),
        ("%z = neg(%x) : tensor<1x2xf32>", "relu(%b)", "neg %z: no output needs it (remove-dead"),
        ("%z = neg(%w) : tensor<2xf32>", "mul(%b, %z)", "neg %z: all its operands are constants"),
        ("", "mul(%x, %w)", "mul %y: equal to mul %a (merge-equal-ops)"),
        (
            "",
            "batch_norm(%b, %w, %w, %w, %v) {epsilon = 0.5}",
            "batch_norm %y: its parameters are constants (fold-batch-norm)",
        ),
        ("", "batch_norm(%b, %w, %w, %w, %v) {epsilon = -1.0}", ""),
    ],
)
def test_canonical(line: str, last: str, fault: str) -> None:
    """Constants 0.0 and -0.0 are two; a variance of 0 gives no scale, so such a norm may stay."""
    text = CANONICAL.format(line=line, last=last)
    messages = faults(text)
    assert fault in messages if fault else not messages
    assert not faults(text.replace("stage=canonical", "stage=imported"))


@pytest.mark.parametrize(
    ("operands", "fault"),
    [
        ("%d, %w, %b", ""),
        ("%r, %w, _", ""),
        ("%x, %w, _", "linear %y: operand %x comes from input %x, a dequantize is needed"),
        ("%f, %w, _", "linear %y: operand %f comes from relu %f, a dequantize is needed"),
        ("%d, %c, _", "linear %y: operand %c comes from constant %c, a dequantize is needed"),
        ("%d, %v, _", "linear %y: operand %v comes from input %v, a dequantize is needed"),
    ],
)
def test_simulated(operands: str, fault: str) -> None:
    text = SIMULATED.format(operands=operands)
    messages = faults(text)
    assert fault in messages if fault else not messages
    assert not faults(text.replace("stage=simulated", "stage=transformed"))


def test_integer() -> None:
    text = CANONICAL.format(line="", last="relu(%b)").replace("stage=canonical", "stage=integer")
    messages = faults(text)
    assert "faults in integer stage" in messages
    for fault in (
        "input %x: tensor<1x2xf32>, a quantized or integer tensor is needed",
        "mul %a: result tensor<1x2xf32>, a quantized or integer tensor is needed",
        "relu %y: an op on floats, integer ops are needed",
    ):
        assert fault in messages


def test_a_pass_says_which_stages_it_takes() -> None:
    graph = parse(CANONICAL.format(line="", last="relu(%b)"))
    with pytest.raises(PassError) as error:
        Manager().run(graph, [ToInteger()])
    assert error.value.text == (
        "pass to-integer: graph @g is at stage canonical, simulated is needed"
    )


def test_a_pass_leaves_the_stage_that_it_says() -> None:
    @dataclass(frozen=True)
    class Silent(Pass):
        name: ClassVar[str] = "silent"

        def run(self, graph: Graph, record: Record) -> Graph:
            return graph.at_stage("transformed")

    @dataclass(frozen=True)
    class Said(Silent):
        name: ClassVar[str] = "said"
        leaves: ClassVar[str] = "transformed"

    graph = parse(CANONICAL.format(line="", last="relu(%b)"))
    with pytest.raises(PassError, match=r"^pass silent: left graph @g at stage transformed, can"):
        Manager().run(graph, [Silent()])
    assert Manager().run(graph, [Said()]).stage == "transformed"


def test_between_passes_a_canonical_graph_may_lose_its_form() -> None:
    @dataclass(frozen=True)
    class Untidy(Pass):
        name: ClassVar[str] = "untidy"

        def run(self, graph: Graph, record: Record) -> Graph:
            record.rewrites = graph.ops[-1].mnemonic == "relu"
            return parse(CANONICAL.format(line="", last="mul(%x, %w)"))

    tidy = parse(CANONICAL.format(line="", last="relu(%b)"))
    after = Manager().run(tidy, [Untidy()])
    assert len(after.ops) == 5
    with pytest.raises(VerifyError, match="1 faults in canonical stage"):
        Manager(check=True).run(tidy, Pipeline("untidy", "canonical", (Untidy(),)))
