"""How many bits stored values get, and that integers of every width are those of the simulation."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Constant,
    Conv,
    Dequantize,
    Gelu,
    MaxPool,
    Relu,
)  # fmt: skip
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER, quantize
from qir.passes.quantize.placement import plan_quantization
from qir.passes.quantize.widths import activation_widths
from tests.passes.random_floats import samples


class Net(Builder):
    def __init__(self) -> None:
        super().__init__("net", "transformed")
        self.rng = np.random.default_rng(0)
        self.x = self.input("x", Tensor((1, 6, 6, 8), F32))

    def conv(self, x: Value, name: str) -> Value:
        w = self.rng.normal(size=(8, 1, 1, x.type.shape[3])).astype(np.float32)
        y = self.add(Conv(x, self.add(Constant.of(w)), None, (1, 1), (0, 0, 0, 0), (1, 1), 1))
        return self.add(Relu(y), name)


def block() -> Graph:
    """a -> (b -> c) + a -> d -> pool -> e"""
    net = Net()
    a = net.conv(net.x, "a")
    y = net.add(Add(net.conv(net.conv(a, "b"), "c"), a), "sum")
    pooled = net.add(MaxPool(net.conv(y, "d"), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), "pool")
    return net.finish([net.conv(pooled, "e")])


def layer_names(graph: Graph) -> list[str]:
    return [op.names[0] for op in graph.ops if isinstance(op, Conv)]


def test_what_sums_read_keeps_sixteen_bits() -> None:
    graph = block()
    widths = activation_widths(plan_quantization(graph), {}, 4)
    stored = {n: w for n, w in widths.stored.items() if n in ("x", "a", "b", "d", "pool", "e")}
    assert stored == {"x": 8, "a": 16, "b": 4, "d": 4, "pool": 4, "e": 8}
    names = layer_names(graph)
    assert widths.reads == {names[1]: 4}  # of the value in 16 bits


def test_at_eight_bits_all_have_eight() -> None:
    widths = activation_widths(plan_quantization(block()), {}, 8)
    assert set(widths.stored.values()) == {8} and not widths.reads


def test_single_layers_ask_for_their_own() -> None:
    graph = block()
    first, last = layer_names(graph)[0], layer_names(graph)[-1]
    bits = {first: Bits(8, 4), last: Bits(8, 4)}
    widths = activation_widths(plan_quantization(graph), bits, 8)
    assert (widths.stored["x"], widths.reads) == (8, {first: 4})
    assert (widths.stored["d"], widths.stored["pool"]) == (4, 4)


@pytest.mark.parametrize("bits", [Bits(4, 4), Bits(3, 8, 4), Bits(2, 4, 3), Bits(5, 6), Bits(6, 8)])
def test_integers_follow_the_simulation(bits: Bits) -> None:
    graph = block()
    ranges = calibrate(graph, samples(graph, 40), "min-max")
    simulated = Manager().run(graph, quantize(ranges, bits))
    integer = Manager().run(simulated, TO_INTEGER)
    storage = {str(op.x.type.quant.storage) for op in simulated.ops if isinstance(op, Dequantize)}
    assert f"i{bits.weight}" in storage or bits.group
    for x in samples(graph, 4):
        expected = run_float(simulated, [x[None]])[0]
        stored = interpret(integer, quantize_inputs(integer, [x[None]]))[0]
        quant = integer.outputs[0].type.quant
        real = (stored.astype(np.float64) - quant.zero_point.array) * quant.scale.array
        assert np.abs(real - expected).max() <= 2.01 * float(quant.scale.array)


def levels_net() -> Graph:
    """Layers that read an accumulator's relu, a table, a pool, a concat and a residual sum."""
    net = Net()
    relu = net.conv(net.x, "relu")
    table = net.add(Gelu(net.conv(relu, "b"), False), "table")
    pool = net.add(MaxPool(net.conv(table, "c"), (2, 2), (1, 1), (0, 0, 1, 1), (1, 1)), "pool")
    mean = net.add(AvgPool(net.conv(pool, "d"), (2, 2), (1, 1), (0, 0, 1, 1), (1, 1), True), "mean")
    joined = net.add(Concat((net.conv(mean, "e"), net.conv(mean, "f")), 3), "joined")
    base = net.conv(joined, "base")
    total = net.add(Relu(net.add(Add(net.conv(base, "g"), base))), "total")
    return net.finish([net.conv(total, "y")])


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_value_of_n_bits_takes_two_to_the_n_values_at_most(bits: int) -> None:
    """On inputs three times as large as those of calibration, which reach both ends."""
    graph = levels_net()
    ranges = calibrate(graph, samples(graph, 20), "min-max")
    simulated = Manager().run(graph, quantize(ranges, Bits(bits, bits)))
    integer = Manager().run(simulated, TO_INTEGER)
    values: dict[str, set[int]] = {}

    def note(v: Value, y: Array) -> None:
        values.setdefault(v.name, set()).update(np.unique(y).tolist())

    for x in samples(graph, 20, 1) * 3:
        inputs = quantize_inputs(integer, [x[None]])
        interpret(integer, inputs, watch=note)
    layers = [op for op in integer.ops if isinstance(op, Conv)]
    read = {op.x.name for op in layers[1:]}  # the first one reads the input, of 8 bits
    assert {"table", "pool", "mean", "joined", "total"} <= read
    for name in read:
        storage = next(v.type.quant.storage for v in integer.values if v.name == name)
        assert storage.max - storage.min + 1 == 2**bits, name
        assert storage.min <= min(values[name]) and max(values[name]) <= storage.max
        assert len(values[name]) <= 2**bits
    assert max(len(values[name]) for name in read) > 0.7 * 2**bits
    for op in layers:
        assert len(values[op.w.name]) <= 2**bits


def test_bits_of_what_is_no_layer_are_refused() -> None:
    graph = block()
    ranges = calibrate(graph, samples(graph, 4), "min-max")
    with pytest.raises(PassError, match=r"(?s)bits for 1 that are no layers.*nowhere: w4a8"):
        Manager().run(graph, quantize(ranges, layers={"nowhere": Bits(4, 8)}))
