"""Polynomials are read off any way of writing them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Constant, Div, Mul, Neg, Pow, Sub, Tanh
from qir.ir.types import F32, Tensor
from qir.passes.canonicalize.recognize.polynomials import (
    MAX_DEGREE,
    is_close,
    line,
    matches,
    polynomial,
)
from qir.passes.infra.rewriter import Site

NUMBERS = st.sampled_from([0.5, 1.0, 2.0, 3.0, -1.5])
Steps = st.lists(
    st.tuples(st.sampled_from(["add", "sub", "from", "mul", "div", "neg", "times x"]), NUMBERS),
    max_size=6,
)


def written(steps: list[tuple[str, float]]) -> tuple[Graph, np.polynomial.Polynomial]:
    b = Builder("g", "imported")
    x = b.input("x", Tensor((3,), F32))
    y, p = x, np.polynomial.Polynomial([0.0, 1.0])
    for kind, number in steps:
        c = b.add(Constant.of(np.float32(number)))
        match kind:
            case "add":
                y, p = b.add(Add(c, y)), p + number
            case "sub":
                y, p = b.add(Sub(y, c)), p - number
            case "from":
                y, p = b.add(Sub(c, y)), number - p
            case "mul":
                y, p = b.add(Mul(y, c)), p * number
            case "div":
                y, p = b.add(Div(y, c)), p / number
            case "neg":
                y, p = b.add(Neg(y)), -p
            case _ if p.degree() < MAX_DEGREE:
                y, p = b.add(Mul(x, y)), p * np.polynomial.Polynomial([0.0, 1.0])
    return b.finish([y]), p


@given(Steps)
def test_the_coefficients_are_those_of_the_formula(steps: list[tuple[str, float]]) -> None:
    graph, expected = written(steps)
    coefficients = polynomial(Site(graph, "test"), graph.outputs[0], graph.inputs[0])
    assert coefficients is not None and matches(coefficients, tuple(expected.coef))
    assert not matches(coefficients, (*expected.coef[:-1], expected.coef[-1] + 1))


@given(Steps.map(lambda steps: [s for s in steps if s[0] != "times x"]))
def test_a_line_leads_back_to_its_start(steps: list[tuple[str, float]]) -> None:
    graph, expected = written(steps)
    x, (b, a) = line(Site(graph, "test"), graph.outputs[0])
    assert x == graph.inputs[0]
    assert is_close(a, expected.coef[1]) and abs(b - expected.coef[0]) < 1e-9


def built(*ops: object) -> tuple[Site, Value, Value]:
    b = Builder("g", "imported")
    x = b.input("x", Tensor((3,), F32))
    y = x
    for make in ops:
        y = b.add(make(b, y))  # type: ignore[operator]
    graph = b.finish([y])
    return Site(graph, "test"), graph.outputs[0], x


def number(b: Builder, value: float) -> Value:
    return b.add(Constant.of(np.float32(value)))


def test_powers() -> None:
    site, y, x = built(lambda b, v: Pow(v, number(b, 3.0)))
    assert polynomial(site, y, x) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda b, v: Tanh(v),
        lambda b, v: Div(number(b, 1.0), v),
        lambda b, v: Div(v, number(b, 0.0)),
        lambda b, v: Pow(v, number(b, 0.5)),
        lambda b, v: Pow(v, number(b, float(MAX_DEGREE + 1))),
        lambda b, v: Add(v, b.add(Constant.of(np.array([1, 2, 3], np.float32)))),
        lambda b, v: Add(v, b.add(Constant.of(np.ones((2, 3), np.float32)))),
    ],
)
def test_what_is_no_polynomial_of_one_number(make: object) -> None:
    site, y, x = built(make)
    assert polynomial(site, y, x) is None
