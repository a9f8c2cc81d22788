"""Gathers by an index of several axes, or of none."""

from __future__ import annotations

import numpy as np
import pytest

from qir.backends import find, lower
from qir.backends.lowering.gathers import with_flat_gathers
from qir.ir.data import Data
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.ops import Gather, MaxPool
from qir.ir.types import I8, Quant, Tensor


def gathered(index: list[list[int]] | int) -> Graph:
    builder = Builder("gathered", "integer")
    x = builder.input("x", Tensor((2, 5, 3), Quant.per_tensor(I8, 0.1, 0)))
    y = builder.add(Gather(x, Data(np.asarray(index, np.int64)), 1), "y")
    if y.type.rank == 4:  # in a frame, since the pool pads it
        y = builder.add(MaxPool(y, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), "p")
    return builder.finish([y])


@pytest.mark.parametrize("index", [[[4, 0], [2, 2], [1, 3]], 2])
@pytest.mark.parametrize("target", ["c", "x86-avx2", "cortex-m7", "hexagon-v68"])
def test_every_index_has_a_kernel_that_gives_the_same_bits(
    index: list[list[int]] | int, target: str
) -> None:
    graph = gathered(index)
    flat = with_flat_gathers(graph)
    x = np.random.default_rng(0).integers(-128, 128, (2, 5, 3)).astype(np.int8)
    assert np.array_equal(interpret(flat, [x])[0], interpret(graph, [x])[0])
    assert all(op.index.array.ndim == 1 for op in flat.ops if isinstance(op, Gather))
    assert flat.outputs == graph.outputs
    lower(graph, find(target))
