"""The text form holds every graph that verifies: odd names, places, attributes and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qir.ir.data import Data
from qir.ir.errors import QirError, VerifyError
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import OPS, Loc, Op, Value, op
from qir.ir.ops import Clip, Relu
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.types import F32, I8, U4, Quant, Tensor
from qir.ir.verify import verify

ODD = st.text(max_size=6) | st.sampled_from(
    ["", " ", "my net", "a\nb", 'q"', "%x", "@g", "é", "名", "x-", "-", "$", "_", "inf", "nan",
     "return", "by", "//", "1", "a.b", "\ud800", "\x1b[31m", "\\", "0x", "loc", "stage"]
)  # fmt: skip
X = Tensor((2,), F32)


@pytest.fixture(scope="module")
def every() -> Iterator[type[Op]]:
    """An op with an attribute of every type that the text can write."""
    known = dict(OPS)

    @op("every_attribute")
    class Every(Op):
        """Its attributes mean nothing."""

        x: Value
        b: bool
        i: int
        f: float
        s: str
        data: Data
        dyadic: Dyadic
        quant: Quant
        rounding: Rounding
        maybe: int | None
        many: tuple[int, ...]
        floats: tuple[float, ...]
        arrays: tuple[Data, ...]

        def infer(self) -> Tensor:
            return self.x.type

    yield Every
    OPS.clear()
    OPS.update(known)


def graph_of(name: str, value: str, made: Op, loc: Loc, output: str) -> Graph:
    x = Value(value, X)
    placed = made.on(x).named(("y",), (X,))
    object.__setattr__(placed, "loc", loc)
    return Graph(name, (x,), (placed,), (placed.result,), (output,), "imported")


def held(graph: Graph) -> bool:
    """Whether the graph verifies; then its text must give it back."""
    try:
        verify(graph)
    except VerifyError:
        return False
    again = parse(text(graph), blobs(graph))
    assert again == graph
    assert text(again) == text(graph) == str(graph)
    return True


@settings(max_examples=100, deadline=None)
@given(ODD, ODD, ODD, ODD, st.lists(ODD, max_size=2))
def test_names_and_places(
    name: str, value: str, output: str, source: str, passes: list[str]
) -> None:
    """Every graph that verifies comes back equal; one of letters alone does verify."""
    fits = held(graph_of(name, value, Relu(Value("x", X)), Loc(source, tuple(passes)), output))
    if all(n.isascii() and n.isalpha() for n in (name, value, *passes)) and value != "y":
        assert fits


FLOATS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 5e-324, 1e22, 1e-5, float("inf")])
ARRAYS = st.one_of(
    hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    for kind in ("<f4", ">f4", "f2", "f8", "i1", ">i4", "u8", "i8", "?", "c8")
)
WHOLE = st.integers(-(1 << 63), 1 << 63)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_attributes(every: Any, data: st.DataObject) -> None:
    draw = data.draw
    quant = Quant.per_tensor(I8, draw(FLOATS), draw(st.integers(-200, 200)))
    whole = Data(draw(hnp.arrays("i8", (3,))))
    made = every(
        Value("x", X),
        b=draw(st.sampled_from([True, False, np.True_, 1])),
        i=draw(WHOLE | st.sampled_from([np.int32(3), True, 2.5])),
        f=draw(FLOATS | st.sampled_from([3, np.float32(0.1), np.float64(0.1), True])),
        s=draw(ODD),
        data=Data(draw(ARRAYS)),
        dyadic=Dyadic(whole, whole),
        quant=quant,
        rounding=draw(st.sampled_from(list(Rounding))),
        maybe=draw(st.none() | WHOLE),
        many=draw(st.lists(WHOLE, max_size=3).map(tuple) | st.just([1])),
        floats=draw(st.lists(FLOATS, max_size=3).map(tuple)),
        arrays=(Data(draw(ARRAYS)),),
    )
    held(graph_of("g", "x", made, Loc(), "y"))


def test_plain_attributes_verify(every: Any) -> None:
    """The law above is not kept by refusing everything."""
    one = Data(np.array([1.5, -0.0], np.float32))
    quant = every(
        Value("x", X), True, -3, -0.0, 'a "quoted"\n line', one, Dyadic.of(0.3),
        Quant.per_axis(U4, [0.5, 0.25], [1, 2], 0), Rounding.FLOOR, None, (1, -2),
        (float("inf"), 1e-300), (one, Data(np.zeros((0, 2), np.int8))),
    )  # fmt: skip
    assert held(graph_of("g", "x", quant, Loc("model.onnx node \x1b", ("a", "by")), "\n"))


def test_a_float_keeps_its_sign() -> None:
    graph = graph_of("g", "x", Clip(Value("x", X), -0.0, float("inf")), Loc(), "y")
    again = parse(text(graph)).ops[0]
    assert isinstance(again, Clip)
    assert np.signbit(again.low)


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (graph_of("my net", "x", Relu(Value("x", X)), Loc(), "y"), "graph name 'my net', letters"),
        (graph_of("", "x", Relu(Value("x", X)), Loc(), "y"), "graph name '', letters"),
        (graph_of("g", "a b", Relu(Value("x", X)), Loc(), "y"), "value name 'a b', letters"),
        (
            graph_of("g", "x", Relu(Value("x", X)), Loc("", ("my pass",)), "y"),
            "relu %y: touched by pass 'my pass', a word is needed",
        ),
        (
            graph_of("g", "x", Clip(Value("x", X), "0", 6.0), Loc(), "y"),  # type: ignore[arg-type]
            "clip %y: low is '0' of str, float is needed",
        ),
    ],
)
def test_what_text_cannot_hold_is_refused(graph: Graph, why: str) -> None:
    with pytest.raises(VerifyError) as error:
        verify(graph)
    assert why in error.value.text


def test_shapes_that_text_cannot_hold_are_refused() -> None:
    for shape in ((-1,), (1 << 20, 1 << 20)):
        build = Builder("g", "imported")
        x = build.input("x", Tensor(shape, F32))
        with pytest.raises(QirError, match="sizes from 0 with a product of at most"):
            verify(build.finish([build.add(Relu(x), "y")]))


def test_a_graph_prints_as_its_text() -> None:
    graph = graph_of("g", "x", Relu(Value("x", X)), Loc(), "y")
    assert f"{graph}" == text(graph)
    assert repr(graph) == "<graph @g stage=imported, 1 ops>"


def test_an_op_is_named_by_a_word() -> None:
    with pytest.raises(VerifyError, match="op 'my op' of Odd: a word is needed as its name"):

        @op("my op")
        class Odd(Op):
            """Never declared."""


@pytest.mark.parametrize("member", ["range", "reals", "names", "infer"])
def test_a_field_must_not_hide_what_every_op_has(member: str) -> None:
    with pytest.raises(VerifyError, match=f"op hiding: field '{member}' has a default, or the"):
        op("hiding")(type("Hiding", (Op,), {"__annotations__": {"x": "Value", member: "int"}}))
