"""Functions that models write out, and the weights of a resize: parts of random graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Clip,
    Div,
    Erf,
    Exp,
    Expand,
    Mul,
    Neg,
    ReduceMax,
    ReduceSum,
    Relu,
    Sigmoid,
    Softmax,
    Sub,
)

if TYPE_CHECKING:
    from tests.passes.float_graphs import FloatGraphs


def written_out(net: FloatGraphs, x: Value) -> Value:
    """A function of x as models write it out, in elementary ops."""
    kind = int(net.rng.integers(8))
    if kind == 4:  # sigmoid
        return net.add(Div(net.number(1), net.add(Add(net.number(1), net.add(
            Exp(net.add(Neg(x))))))))  # fmt: skip
    if kind == 5:  # gelu
        erf = net.add(Erf(net.add(Div(x, net.number(2**0.5)))))
        gate = net.add(Add(erf, net.number(1)))
        return net.add(Mul(net.add(Mul(x, gate)), net.number(0.5)))
    if kind == 6 and x.type.rank and x.type.size:  # softmax
        axis = (int(net.rng.integers(x.type.rank)),)
        power = net.add(Exp(net.add(Sub(x, net.add(ReduceMax(x, axis, True))))))
        return net.add(Div(power, net.add(ReduceSum(power, axis, True))))
    if kind == 7:  # relu(x) - a * relu(-x)
        below = net.add(Mul(net.number(0.1), net.add(Relu(net.add(Neg(x))))))
        return net.add(Sub(net.add(Relu(x)), below))
    if kind == 0:
        gate = net.add(Clip(net.add(Add(x, net.number(3))), 0.0, 6.0))
        return net.add(Div(net.add(Mul(x, gate)), net.number(6)))
    if kind == 1:
        return net.add(Mul(x, net.add(Sigmoid(x))))
    if kind == 2:
        return net.add(Softmax(x)) if x.type.rank else x
    return net.add(Expand(x, (2, *x.type.shape))) if x.type.rank < 4 else x


def halves(size: int) -> tuple[Data, Data]:
    """The index and the weights of one axis of a resize to twice the size."""
    at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    index = np.stack([low, np.minimum(low + 1, size - 1)], 1)
    return Data(index), Data(np.stack([1 - (at - low), at - low], 1))
