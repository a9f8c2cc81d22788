"""Graphs are copied by one function, and values keep their names in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Abs, Add, Neg, Relu
from qir.ir.text.parser import parse
from qir.ir.types import F32, Tensor
from qir.ir.verify import verify
from tests.ir.graphs import IntegerGraphs

CHAIN = parse(
    """graph @chain stage=imported (%x: tensor<2xf32>) {
      %a = neg(%x) : tensor<2xf32>
      %b = neg(%a) : tensor<2xf32>
      %a_new = relu(%b) : tensor<2xf32>
      return %a_new as "y", %b
    }"""
)


def same(op: Op, builder: Builder) -> Op:
    return op


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_mapped_without_a_change_is_the_same_object(seed: int, size: int) -> None:
    graph = IntegerGraphs(seed).graph(size).without_dead_code()
    assert graph.mapped(same) is graph


def test_an_op_is_replaced_under_its_name() -> None:
    def absolute(op: Op, builder: Builder) -> Op:
        return Abs(op.operands[0]) if isinstance(op, Relu) else op

    after = CHAIN.mapped(absolute)
    verify(after)
    assert [str(op) for op in after.ops] == ["neg %a", "neg %b", "abs %a_new"]
    assert after.output_names == ("y", "b")
    assert after.ops[:2] == CHAIN.ops[:2]


def test_what_is_added_takes_no_name_of_the_graph() -> None:
    """A name of a later op, or of an input, is not given again; all values keep theirs."""

    def added(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Neg):
            return op
        more = builder.input("x", Tensor((2,), F32))
        return replace(op, x=builder.add(Add(op.x, more), "a_new"))

    after = CHAIN.mapped(added)
    verify(after)
    assert [v.name for v in after.inputs] == ["x", "x1", "x2"]
    assert [op.names[0] for op in after.ops] == ["a_new1", "a", "a_new2", "b", "a_new"]
    assert {v.name for v in CHAIN.values} <= {v.name for v in after.values}


def test_a_value_stands_for_a_result() -> None:
    def dropped(op: Op, builder: Builder) -> Op | tuple[Value, ...]:
        inner = builder.producer(op.operands[0])
        both = isinstance(op, Neg) and isinstance(inner, Neg)
        return inner.operands if both and inner is not None else op

    after = CHAIN.mapped(dropped)
    verify(after)
    assert [str(op) for op in after.ops] == ["relu %a_new"]  # the dead one is gone
    assert after.outputs[1].name == "x"


def test_a_builder_needs_a_name_for_each_output() -> None:
    build = Builder("g", "imported")
    x = build.input("x", Tensor((2,), F32))
    with pytest.raises(VerifyError, match="graph g: 0 output names, 1 outputs"):
        build.finish([x], [])


def test_kept_names_are_given_by_keep_alone() -> None:
    build = Builder("g", "imported", reserved=["y"])
    x = build.input("y", Tensor((2,), F32))
    first = build.add(Neg(x), "y")
    own = Neg(x, names=("y",))
    assert (x.name, first.name, build.add(own).name) == ("y1", "y2", "y3")
    assert build.keep(own)[0].name == "y"
    graph: Graph = build.finish([first])
    verify(graph)
