"""The rewrite driver: order, uses, names, places, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

import qir.passes.pipelines  # noqa: F401  (the passes that names are to be known of)
from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Abs, Neg, Relu, Reshape, Tanh
from qir.ir.text.parser import parse
from qir.ir.types import F32, Tensor
from qir.passes.infra import manager
from qir.passes.infra.manager import KEEPS_BITS, Claim, Manager, Miss, Pass, Record, find, register
from qir.passes.infra.rewriter import RewritePass, Site

CHAIN = parse(
    """graph @chain stage=imported (%x: tensor<2xf32>) {
      %a = neg(%x) : tensor<2xf32> loc("m.onnx node a")
      %b = neg(%a) : tensor<2xf32> loc("m.onnx node b")
      %c = tanh(%b) : tensor<2xf32>
      %d = neg(%c) : tensor<2xf32>
      return %d, %b
    }"""
)


@dataclass(frozen=True)
class Twice(RewritePass):
    """neg(neg(x)) -> abs(abs(x)): nonsense, but it emits, replaces and merges."""

    name: ClassVar[str] = "twice"
    claim: ClassVar[Claim] = KEEPS_BITS
    roots: ClassVar[tuple[type[Op], ...]] = (Neg,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, Neg)
        inner = at.producer(op.x)
        if not isinstance(inner, Neg):
            return Miss("one neg")
        return at.replace(Abs(at.emit(Abs(inner.x))), inner)


def run(one: RewritePass, graph: Graph = CHAIN) -> tuple[Graph, Record]:
    record = Record(one.name, one.claim)
    return one.run(graph, record), record


def test_a_replacement_keeps_the_name_and_both_places() -> None:
    after, record = run(Twice())
    assert [op.mnemonic for op in after.ops] == ["abs", "abs", "tanh", "neg"]
    assert after.ops[1].names == ("b",)
    assert after.ops[1].loc == Loc("m.onnx node a + m.onnx node b", ("twice",))
    assert after.ops[0].loc == Loc("m.onnx node b", ("twice",))
    assert after.outputs == (after.ops[3].result, after.ops[1].result)
    assert record.rewrites == 1
    assert [(m.why, m.at) for m in record.misses] == [("one neg", "d")]


def test_an_unchanged_graph_is_the_same_object() -> None:
    @dataclass(frozen=True)
    class Never(Twice):
        name: ClassVar[str] = "never"

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            return Miss("never")

    after, record = run(Never())
    assert after is CHAIN
    assert record.rewrites == 0


def test_uses_count_outputs_and_new_readers() -> None:
    uses: dict[str, int] = {}

    @dataclass(frozen=True)
    class Look(Twice):
        name: ClassVar[str] = "look"
        roots: ClassVar[tuple[type[Op], ...]] = (Op,)

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            for value in op.operands:
                uses.setdefault(value.name, at.uses(value))
            return Miss("looking")

    run(Look())
    assert uses == {"x": 1, "a": 1, "b": 2, "c": 1}


def test_a_rule_that_never_ends() -> None:
    @dataclass(frozen=True)
    class Flip(Twice):
        name: ClassVar[str] = "flip"
        roots: ClassVar[tuple[type[Op], ...]] = (Tanh, Relu)

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            (x,) = op.operands
            return at.replace(Relu(x) if isinstance(op, Tanh) else Tanh(x))

    with pytest.raises(PassError, match="pass flip: still changes the graph after 20 walks"):
        run(Flip())


def test_a_replacement_of_another_shape() -> None:
    @dataclass(frozen=True)
    class Bend(Twice):
        name: ClassVar[str] = "bend"
        roots: ClassVar[tuple[type[Op], ...]] = (Tanh,)

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            return at.replace(Reshape(op.operands[0], (2, 1)))

    with pytest.raises(
        PassError, match=r"pass bend: tanh %c gave tensor<2xf32>, its replacement gives tensor<2x1x"
    ):
        run(Bend())


def test_a_broken_claim_names_the_passes_run_so_far() -> None:
    with pytest.raises(
        PassError, match=r"pass twice: outputs differ by .*, Keeps: every bit is"
    ) as e:
        Manager(check=True).run(CHAIN, [Twice()])
    assert "passes run so far: twice" in str(e.value)


def test_a_broken_graph_is_the_fault_of_its_pass() -> None:
    @dataclass(frozen=True)
    class Cut(Pass):
        name: ClassVar[str] = "cut"

        def run(self, graph: Graph, record: Record) -> Graph:
            return Graph(
                graph.name,
                graph.inputs,
                graph.ops[1:],
                graph.outputs,
                graph.output_names,
                "imported",
            )

    with pytest.raises(PassError, match=r"pass cut: graph @chain: 1 faults in structure"):
        Manager().run(CHAIN, [Cut()])


def test_names_of_passes_are_their_own() -> None:
    with pytest.raises(PassError, match="pass Again: name 'fold-pad' is no word or taken"):
        find("fold-pad")

        @register
        class Again(Twice):
            name: ClassVar[str] = "fold-pad"


def test_an_emitted_op_takes_no_name_of_the_old_graph() -> None:
    """A later op called like the mnemonic keeps its name."""
    graph = parse(
        """graph @net stage=imported (%x: tensor<2xf32>) {
          %a = neg(%x) : tensor<2xf32>
          %b = neg(%a) : tensor<2xf32>
          %abs = tanh(%b) : tensor<2xf32>
          return %abs
        }"""
    )
    after, _ = run(Twice(), graph)
    assert [op.names[0] for op in after.ops] == ["abs1", "b", "abs"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "rewrite returned None of NoneType, a Value or a Miss is needed"),
        (Abs(CHAIN.inputs[0]), r"rewrite returned .* of Abs, a Value or a Miss is needed"),
        (Value("z", CHAIN.inputs[0].type), r"rewrite returned %z of tensor<2xf32>, which no op"),
        (
            Value("x", Tensor((3,), F32)),
            r"rewrite returned %x of tensor<3xf32>, which no op defines; a value of the graph, or",
        ),
    ],
)
def test_a_wrong_answer_names_pass_and_op(answer: Any, why: str) -> None:
    @dataclass(frozen=True)
    class Wrong(Twice):
        name: ClassVar[str] = "wrong"

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            found: Value | Miss = answer
            return found

    with pytest.raises(PassError, match=rf"^pass wrong: at neg %a \(m.onnx node a\): {why}"):
        run(Wrong())


def test_an_op_that_does_not_fit_names_pass_and_op() -> None:
    @dataclass(frozen=True)
    class Misfit(Twice):
        name: ClassVar[str] = "misfit"

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            return at.replace(Reshape(op.operands[0], (3,)))

    with pytest.raises(PassError, match=r"^pass misfit: at neg %a .*: reshape .*: shape "):
        run(Misfit())


def test_an_error_of_another_package_is_not_called_a_fault_of_ours() -> None:
    @dataclass(frozen=True)
    class Foreign(Twice):
        name: ClassVar[str] = "foreign"

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            raise KeyError("lost")

    @dataclass(frozen=True)
    class Other(Pass):
        name: ClassVar[str] = "other"
        result: int = 0

        def run(self, graph: Graph, record: Record) -> Graph:
            if not self.result:
                raise KeyError("lost")
            return self.result  # type: ignore[return-value]

    here = "tests.passes.infra.test_rewriter raised KeyError: 'lost'; a result, or an error of qir"
    with pytest.raises(PassError, match=f"^pass foreign: at neg %a .*: {here}"):
        Manager().run(CHAIN, [Foreign()])
    with pytest.raises(PassError, match=f"^pass other: {here}, is needed\nhint: passes run so far"):
        Manager().run(CHAIN, [Other()])
    with pytest.raises(PassError, match=r"^pass other: returned 3 of int, a graph is needed"):
        Manager().run(CHAIN, [Other(3)])


def test_a_package_that_gives_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, why in (
        ("no_such_module:Pass", r"cannot be loaded \(ModuleNotFoundError: .*\), a package that"),
        ("math:pi", "math:pi is 3.14.*, a dataclass derived from Pass is needed"),
    ):
        point = EntryPoint("broken", value, manager.ENTRY_POINTS)
        monkeypatch.setattr(manager, "entry_points", lambda group, point=point: [point])
        with pytest.raises(PassError, match=f"^pass broken: .*{why}"):
            find("broken")
