"""equalize-norms: less noise of rows where channels differ, the same reals, other readers."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Constant, LayerNorm, Linear
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes.infra.manager import Manager
from qir.passes.quantize.place_rows import PlaceRows
from qir.passes.transform.equalize_norms import EqualizeNorms

WIDTH, TOKENS = 32, 6


def block(has_residual: bool) -> tuple[Graph, Array]:
    """A norm of unlike channels, one far from 0, read by a linear op and by the sum behind it; and
    samples.
    """
    rng, b = np.random.default_rng(3), Builder("block", "transformed")

    def constant(array: Array) -> Value:
        return b.add(Constant.of(array.astype(np.float32)))

    gain, offset = rng.uniform(0.5, 1.5, WIDTH), rng.standard_normal(WIDTH) * 0.1
    gain[3], offset[7] = 20.0, 9.0
    x = b.input("x", Tensor((1, TOKENS, WIDTH), F32))
    norm = b.add(LayerNorm(x, constant(gain), constant(offset), 1e-5), "norm")
    y = b.add(Linear(norm, constant(rng.standard_normal((WIDTH, WIDTH)) / 6), None), "y")
    out = b.add(Add(norm, y)) if has_residual else y
    return b.finish([out]), rng.standard_normal((48, TOKENS, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("has_residual", [False, True])
def test_rows_lose_less(has_residual: bool) -> None:
    graph, sample = block(has_residual)
    manager = Manager(check=True, samples=(sample[:1],))
    even = manager.run(graph, [EqualizeNorms((sample,))])
    assert manager.records[0].rewrites == 1
    assert sum(isinstance(op, LayerNorm) for op in even.ops) == 1 + has_residual
    power = []
    for one in (graph, even):
        rounded = Manager().run(one, [PlaceRows("token")])
        runs = [(run_float(graph, [x])[0], run_float(rounded, [x])[0]) for x in sample[:, None]]
        power.append(sum(float(((a - b) ** 2).sum()) for a, b in runs))
    assert power[1] < power[0] / 8  # 9 dB


def test_nothing_without_samples() -> None:
    graph, _ = block(False)
    manager = Manager()
    assert manager.run(graph, [EqualizeNorms()]) == graph
    assert manager.records[0].misses[0].why == "no sample is given"
