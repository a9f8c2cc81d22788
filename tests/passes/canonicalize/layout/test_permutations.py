"""Layouts: what an op gives of permuted operands is its result, permuted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.axes import compose, inverse, permuted
from qir.ir.data import Data
from qir.ir.fixed import Rounding
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Add,
    Concat,
    Constant,
    Dequantize,
    Expand,
    Gather,
    LayerNorm,
    Linear,
    MatMul,
    Pad,
    PadMode,
    Quantize,
    ReduceMax,
    ReduceMean,
    Relu,
    Slice,
    Softmax,
)  # fmt: skip
from qir.ir.ops.quantize import dequantized
from qir.ir.torch_executor import run_op
from qir.ir.types import F32, I8, U8, Array, Quant, Tensor
from qir.passes.canonicalize.layout.permutations import (
    is_free,
    reordered_constant,
    through_reduce,
    through_reshape,
)  # fmt: skip

PERMS = st.integers(1, 4).flatmap(lambda n: st.permutations(range(n)).map(tuple))


def numbers(shape: Sequence[int]) -> Array:
    return np.arange(prod(shape)).reshape(tuple(shape))


@given(PERMS, st.randoms(use_true_random=False))
def test_compositions_and_inverses(first: tuple[int, ...], random: np.random.Generator) -> None:
    then = list(range(len(first)))
    random.shuffle(then)
    x = numbers(range(2, 2 + len(first)))
    one = x.transpose(compose(first, tuple(then)))
    assert np.array_equal(one, x.transpose(first).transpose(then))
    assert np.array_equal(x.transpose(first).transpose(inverse(first)), x)


@given(PERMS, st.data())
def test_a_free_permutation_moves_no_element(perm: tuple[int, ...], data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=len(perm), max_size=len(perm))))
    x = numbers(shape)
    stays = np.array_equal(x.transpose(perm).reshape(-1), x.reshape(-1))
    assert is_free(shape, perm) == stays


@given(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4), st.data())
def test_a_layout_through_a_reshape_lays_elements_alike(
    source: list[int], data: st.DataObject
) -> None:
    """Where there is one; and there is one wherever the layout is the model's own."""
    target = list(source)
    for _ in range(2):  # split or merge axes
        at = data.draw(st.integers(0, len(target) - 1))
        if target[at] == 4 and data.draw(st.booleans()):
            target[at : at + 1] = [2, 2]
        elif len(target) > at + 1:
            target[at : at + 2] = [target[at] * target[at + 1]]
    target.insert(data.draw(st.integers(0, len(target))), 1)
    perm = tuple(data.draw(st.permutations(range(len(source)))))
    after = through_reshape(tuple(source), tuple(target), perm)
    if perm == tuple(range(len(source))):
        assert after is not None
    if after is not None:
        x = numbers(source)
        expected = x.reshape(target).transpose(after)
        found = x.transpose(perm).reshape(permuted(tuple(target), after))
        assert np.array_equal(found, expected)


def test_a_reshape_that_merges_what_a_layout_tears_apart_has_no_layout() -> None:
    assert through_reshape((2, 3, 4), (6, 4), (1, 0, 2)) is None
    assert through_reshape((2, 3, 4), (6, 4), (2, 0, 1)) == (1, 0)
    assert through_reshape((2, 0, 4), (0, 4), (0, 1, 2)) is None


def typed(*shape: int) -> Value:
    return Value("x", Tensor(shape, F32))


def constant(shape: tuple[int, ...]) -> Value:
    return Value("w", Tensor(shape, F32))


X = typed(2, 3, 4)
OPS: dict[str, Op] = {
    "relu": Relu(X),
    "add": Add(X, X),
    "concat": Concat((X, X), 1),
    "pad": Pad(X, (0, 1, 2), (1, 0, 0), (0, 1, 0), PadMode.CONSTANT, 3.0),
    "slice": Slice(X, (0, 1, 0), (2, 3, 4), (1, 1, 2)),
    "gather": Gather(X, Data(np.array([2, 0])), 1),
    "expand": Expand(typed(2, 1, 4), (2, 3, 4)),
    "reduce_mean": ReduceMean(X, (0, 1), True),
    "reduce_max": ReduceMax(X, (2,), True),
    "softmax": Softmax(X),
    "layer_norm": LayerNorm(X, None, None, 1e-5),
    "linear": Linear(X, constant((5, 4)), None),
    "matmul": MatMul(X, typed(2, 4, 3)),
    "quantize": Quantize(X, Quant.per_axis(I8, [0.1, 0.2, 0.3], [1, 2, 3], 1), Rounding.HALF_UP),
}


ALL = list(permutations(range(3)))


@pytest.mark.parametrize(
    ("name", "perm"),
    [
        (name, perm)
        for name, op in OPS.items()
        for perm in ALL
        if perm[3 - op.last_axes :] == ALL[0][3 - op.last_axes :]
    ],
)
def test_ops_follow_a_layout(name: str, perm: tuple[int, ...]) -> None:
    """Every layout that leaves the axes that the op needs last."""
    op = OPS[name].named(("y",))
    tied = op.followers() or ()
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(v.type.shape).astype(np.float32) for v in op.operands]
    moved = [a.transpose(perm) if v in tied else a for v, a in zip(op.operands, args, strict=True)]

    def bound(v: Value) -> Value:
        return Value(v.name, v.type.with_shape(permuted(v.type.shape, perm))) if v in tied else v

    after = op.in_layout(perm).rebind(bound)
    expected = run_op(op, args).transpose(perm)
    outputs = run_op(after, moved)
    assert after.results[0].type.shape == outputs.shape
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_a_reduction_that_drops_axes() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    for perm in permutations(range(4)):
        op = ReduceMax(typed(2, 3, 4, 5), (1, 3), False, names=("y",))
        after = through_reduce(op, perm)
        axes = tuple(sorted(perm.index(a) for a in op.axes))
        assert np.array_equal(x.transpose(perm).max(axes), x.max((1, 3)).transpose(after))


QUANTS = {
    "tensor": Quant.per_tensor(U8, 0.5, 3),
    "axis 0": Quant.per_axis(U8, [0.5, 1.0], [1, 2], 0),
    "axis 1": Quant.per_axis(U8, [0.5, 1.0, 2.0, 4.0], [1, 2, 3, 4], 1),
    "blocks of axis 1": Quant(
        U8, Data(np.arange(1.0, 13).reshape(2, 2, 3)), Data(np.arange(12).reshape(2, 2, 3)), 1, 2
    ),
    "blocks of axis 0": Quant(
        U8, Data(np.arange(1.0, 13).reshape(1, 4, 3)), Data(np.arange(12).reshape(1, 4, 3)), 0, 2
    ),
}


def reals(op: Constant) -> Array:
    return dequantized(op.value.array, op.elem) if isinstance(op.elem, Quant) else op.value.array


@pytest.mark.parametrize("name", QUANTS)
@pytest.mark.parametrize("perm", ALL)
def test_constants_move_with_their_scales(name: str, perm: tuple[int, ...]) -> None:
    op = Constant.of(np.random.default_rng(0).integers(0, 256, (2, 4, 3)), QUANTS[name])
    moved = op.permuted(perm)
    assert np.array_equal(reals(moved), reals(op).transpose(perm))
    assert moved.elem == QUANTS[name].permuted(perm)


@pytest.mark.parametrize("name", QUANTS)
@pytest.mark.parametrize(
    ("axis", "index"), [(0, [1, 0]), (1, [2, 3, 0, 1]), (1, [3, 1, 0, 2]), (2, [2, 0, 1])]
)
def test_constants_are_reordered_with_their_scales(name: str, axis: int, index: list[int]) -> None:
    """Or not at all, where a block of one scale would be torn apart."""
    op = Constant.of(np.random.default_rng(0).integers(0, 256, (2, 4, 3)), QUANTS[name])
    after = reordered_constant(op, axis, np.array(index))
    torn = name == "blocks of axis 1" and index == [3, 1, 0, 2]
    assert (after is None) == torn
    if after is not None:
        assert np.array_equal(reals(after), np.take(reals(op), index, axis))
        assert Dequantize(Value("q", Tensor((2, 4, 3), after.elem))).infer().shape == (2, 4, 3)


def test_floats_are_reordered() -> None:
    op = Constant.of(np.array([[1.0, 2.0]], np.float32))
    after = reordered_constant(op, 1, np.array([1, 0]))
    assert after is not None and after.value.array.tolist() == [[2.0, 1.0]]
