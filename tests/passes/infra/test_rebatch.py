"""More samples at once: each as alone, or a reason; for factors equal to any axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qir.ir.data import Data
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import (
    Add,
    BatchNorm,
    Concat,
    Constant,
    Conv,
    Expand,
    Gather,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Mul,
    PRelu,
    Quantize,
    ReduceMax,
    ReduceMean,
    Relu,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Sub,
    Transpose,
)  # fmt: skip
from qir.ir.types import F32, I8, U8, Quant, Tensor
from qir.passes.infra.manager import Miss, evaluate, sample_inputs
from qir.passes.infra.rebatch import rebatch
from tests.passes.float_graphs import FloatGraphs
from tests.passes.random_floats import random_net

FACTORS = (2, 3, 4, 5)


def built(*ops: Callable[..., Op], stage: str = "canonical", **inputs: Tensor) -> Graph:
    b = Builder("g", stage)
    values = [b.input(name, t) for name, t in inputs.items()]
    for make in ops:
        values.append(b.add(make(*values)))
    return b.finish(values[-1:])


def assert_as_one_by_one(graph: Graph, factor: int) -> bool:
    """Whether there is a larger graph; its samples are then as the small graph has them."""
    larger = rebatch(graph, factor)
    if isinstance(larger, Miss):
        assert larger.why
        return False
    x = sample_inputs(larger)
    batch = graph.inputs[0].type.shape[0]
    parts = [evaluate(graph, [a[i * batch : (i + 1) * batch] for a in x]) for i in range(factor)]
    for actual, expected in zip(evaluate(larger, x), zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(actual, np.concatenate(expected), rtol=1e-4, atol=1e-4)
    return True


def constant(*shape: int) -> Constant:
    return Constant.of(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def x(*shape: int) -> Tensor:
    return Tensor(shape, F32)


MIXED: dict[str, Graph] = {
    "a lower rank": built(
        lambda x: ReduceMax(x, (1,), False), lambda x, m: Sub(x, m), x=x(1, 3, 4)
    ),
    "an input of lower rank": built(lambda x, z: Add(x, z), x=x(1, 3, 4), z=x(1, 4)),
    "a product over a lower rank": built(
        lambda x: ReduceMax(x, (1,), False), lambda x, m: MatMul(x, m), x=x(1, 3, 5, 5)
    ),
    "an expansion": built(lambda x: Expand(x, (1, 3, 4)), x=x(1, 4)),
    "an expansion of size 1": built(lambda x: Expand(x, (3, 4)), x=x(1, 4)),
    "a slope of each sample": built(
        lambda x: ReduceMean(x, (1, 2), False), lambda x, m: PRelu(x, m), x=x(1, 3, 1)
    ),
    "a gain of each sample": built(
        lambda x: ReduceMean(x, (1,), False),
        lambda x, m: LayerNorm(x, m, None, 1e-5),
        x=x(1, 1),
    ),
    "a norm over the batch": built(lambda x: LayerNorm(x, None, None, 1e-5), x=x(1)),
    "a norm of channels of the batch": built(
        *[lambda *v: Constant.of(np.ones(1, np.float32))] * 4,
        lambda x, a, b, c, d: BatchNorm(x, a, b, c, d, 1e-5),
        x=x(1),
    ),
    "softmax over the batch": built(lambda x: Softmax(x), x=x(2)),
    "a table for each sample": built(
        lambda x: Lookup(x, Data(np.zeros((1, 256), np.uint8)), Quant.per_tensor(U8, 1.0, 0)),
        stage="integer", x=Tensor((1,), Quant.per_tensor(U8, 1.0, 0)),
    ),
    "weights of each sample": built(lambda x, w: Linear(x, w, None), x=x(1, 4), w=x(1, 4)),
    "kernels of each sample": built(
        lambda x, w: Conv(x, w, None, (1, 1), (0,) * 4, (1, 1), 1), x=x(1, 2, 2, 1), w=x(1, 1, 1, 1)
    ),
    "rows of one matrix": built(lambda x, z: MatMul(x, z), x=x(4, 4), z=x(4, 3)),
    "a constant for each sample": built(
        lambda x: constant(2, 4), lambda x, c: Add(x, c), x=x(2, 4)
    ),
    "a constant beside": built(
        lambda x: constant(1, 4), lambda x, c: Concat((x, c), 1), x=x(1, 4)
    ),
    "along the batch": built(lambda x: Concat((x, x), 0), lambda x, y: Relu(y), x=x(1, 4)),
    "the batch moves": built(lambda x: Transpose(x, (1, 0)), x=x(4, 4)),
    "a part of the batch": built(lambda x: Slice(x, (0, 0), (2, 4), (1, 1)), x=x(4, 4)),
    "scales of samples": built(
        lambda x: Quantize(x, Quant.per_axis(I8, [1.0], 0, 0), Rounding.HALF_UP), x=x(1, 4)
    ),
    "inputs with scales of samples": built(
        lambda x: Requantize(
            (x,), Quant.per_tensor(I8, 1.0, 0), (Dyadic.of(1.0).mult,), Dyadic.of(1.0).shift,
            -128, 127, Rounding.HALF_UP,
        ),
        stage="integer", x=Tensor((1, 4), Quant.per_axis(I8, [1.0], 0, 0)),
    ),
    "no batch": built(lambda x: ReduceMax(x, (0,), True), x=x(1, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("factor", FACTORS)
def test_what_mixes_samples_has_no_larger_graph(name: str, factor: int) -> None:
    assert not assert_as_one_by_one(MIXED[name], factor)


APART: dict[str, Graph] = {
    "a kept axis": built(
        lambda x: ReduceMax(x, (1,), True), lambda x, m: Sub(x, m), x=x(1, 3, 4)
    ),
    "constants of lower rank": built(
        lambda x: constant(3, 4), lambda x, c: Mul(x, c), x=x(1, 3, 4)
    ),
    "a reshape, and a linear": built(
        lambda x: Reshape(x, (2, 12)), lambda x, y: constant(5, 12),
        lambda x, y, w: Linear(y, w, None), x=x(2, 3, 4),
    ),
    "products of two values": built(
        lambda x: Transpose(x, (0, 2, 1)), lambda x, y: MatMul(x, y), x=x(2, 3, 4)
    ),
    "a gather": built(lambda x: Gather(x, Data(np.array([[0, 1]])), 1), x=x(1, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("factor", FACTORS)
def test_samples_that_stay_apart_keep_their_outputs(name: str, factor: int) -> None:
    assert assert_as_one_by_one(APART[name], factor)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_are_as_one_by_one_or_refused(seed: int) -> None:
    """For every factor that is the size of an axis, where a wrong broadcast would fit."""
    graph = FloatGraphs(seed).graph(2 + seed % 6)
    sizes = {s for v in graph.values for s in v.type.shape if 1 < s <= 9}
    for factor in {2, *sizes}:
        assert_as_one_by_one(graph, factor)


def test_networks_have_larger_graphs() -> None:
    """Not everything is refused: that would slow down calibration to one sample at a time."""
    assert sum(assert_as_one_by_one(random_net(seed), 3) for seed in range(20)) >= 18
