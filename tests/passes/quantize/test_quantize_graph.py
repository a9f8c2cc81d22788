"""Where pairs go, what they hold, and weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.errors import PassError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Clip,
    Concat,
    Constant,
    Conv,
    Dequantize,
    HardSwish,
    Maximum,
    MaxPool,
    Minimum,
    Mul,
    Quantize,
    Relu,
    Sigmoid,
    Softmax,
    Sub,
)
from qir.ir.ops.quantize import dequantized
from qir.ir.types import F32, I8, U8, Array, Quant, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER
from qir.passes.quantize.quantize_graph import QuantizeGraph
from qir.passes.quantize.weights import quantize_weights
from tests.passes.random_floats import samples


class Net(Builder):
    def __init__(self) -> None:
        super().__init__("net", "canonical")
        self.rng = np.random.default_rng(0)
        self.x = self.input("x", Tensor((1, 4, 4, 2), F32))

    def conv(self, x: Value, name: str) -> Value:
        w = self.rng.normal(size=(2, 1, 1, x.type.shape[3])).astype(np.float32)
        op = Conv(x, self.add(Constant.of(w)), None, (1, 1), (0, 0, 0, 0), (1, 1), 1)
        return self.add(op, name)


def simulated(graph: Graph, **options: int) -> Graph:
    ranges = calibrate(graph, samples(graph, 20), "min-max")
    return Manager().run(graph, [QuantizeGraph(ranges, **options)])


def quantized(graph: Graph) -> dict[str, Quant]:
    """The quantization behind each value that has a pair."""
    return {
        op.x.name: op.to
        for op in simulated(graph).ops
        if isinstance(op, Quantize)
    }  # fmt: skip


def test_relu_is_clamped_by_the_pair_behind_it() -> None:
    net = Net()
    ranges = quantized(net.finish([net.add(Relu(net.conv(net.x, "c")), "r")]))
    assert set(ranges) == {"x", "r"}
    assert int(ranges["r"].zero_point.array) == 0


def test_a_relu_of_two_readers_does_not_hide_what_the_other_needs() -> None:
    net = Net()
    c = net.conv(net.x, "c")
    r = net.add(Relu(c), "r")
    s = net.add(MaxPool(r, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)))
    assert set(quantized(net.finish([net.add(Add(c, s), "a")]))) == {"x", "c", "r", "a"}


def test_a_sum_of_functions_of_one_value_is_one_table() -> None:
    net = Net()
    c = net.conv(net.x, "c")
    assert set(quantized(net.finish([net.add(Add(c, net.add(Relu(c))), "a")]))) == {"x", "c", "a"}


def test_a_residual_add_takes_the_accumulator_as_it_is() -> None:
    net = Net()
    a = net.add(Add(net.conv(net.x, "c"), net.x), "a")
    assert set(quantized(net.finish([net.add(Clip(a, 0.0, 6.0), "r")]))) == {"x", "r"}


def test_of_two_accumulators_one_is_stored() -> None:
    net = Net()
    a = net.add(Add(net.conv(net.x, "c"), net.conv(net.x, "d")), "a")
    assert set(quantized(net.finish([a]))) == {"x", "c", "a"}


def test_a_function_of_an_accumulator_reads_a_stored_value_and_chains_are_one() -> None:
    net = Net()
    h = net.add(HardSwish(net.conv(net.x, "c")), "h")
    two = net.add(Constant.of(np.float32(2)), "two")
    assert set(quantized(net.finish([net.add(Mul(h, two), "m")]))) == {"x", "c", "m"}


def test_a_concat_and_what_moves_share_one_quantization() -> None:
    net = Net()
    c = net.conv(net.x, "c")
    p = net.add(MaxPool(net.add(Relu(c), "r"), (2, 2), (1, 1), (0, 0, 1, 1), (1, 1)), "p")
    ranges = quantized(net.finish([net.conv(net.add(Concat((p, net.x), 3), "cc"), "y")]))
    assert set(ranges) == {"x", "r", "y"}
    assert ranges["x"] == ranges["r"]


def test_a_given_scale_reaches_a_concat_through_a_pair_of_its_own() -> None:
    net = Net()
    s = net.add(Sigmoid(net.conv(net.x, "c")), "s")
    graph = net.finish([net.conv(net.add(Concat((s, net.x), 3), "cc"), "y")])
    ranges = quantized(graph)
    assert 1 / 512 < float(ranges["s"].scale.array) <= 1 / 256 and ranges["s"] != ranges["x"]
    assert ranges["s_dq"] == ranges["x"]


def test_layers_read_the_greater_and_the_lesser_of_two() -> None:
    net = Net()
    top = net.add(Maximum(net.conv(net.x, "c"), net.conv(net.x, "d")), "top")
    bounded = net.add(Minimum(top, net.add(Constant.of(np.float32([0.5, 1.0])))), "bounded")
    ranges = quantized(net.finish([net.conv(top, "y"), net.conv(bounded, "z")]))
    assert {"x", "c", "d", "y", "z"} <= set(ranges)


def test_functions_of_known_range_have_steps_of_what_was_seen() -> None:
    net = Net()
    graph = net.finish([net.add(Softmax(net.conv(net.x, "c")), "s")])
    top = calibrate(graph, samples(graph, 20)).observations["s"].high
    ranges = quantized(graph)["s"]
    assert float(ranges.scale.array) == np.float32(min(1.0, top * 1.125) / 256)
    assert int(ranges.zero_point.array) == 0


def test_bits_of_weights_and_activations() -> None:
    net = Net()
    two = net.conv(net.conv(net.x, "c"), "d")
    four = simulated(net.finish([two]), weight_bits=4, activation_bits=4)
    kinds = {op.names[0]: str(op.x.type.quant.storage) for op in four.ops
             if isinstance(op, Dequantize)}  # fmt: skip
    assert {kinds[name] for name in kinds if name.endswith("w_dq")} <= {"i4"}
    assert (kinds["x_dq"], kinds["c_dq"], kinds["d_dq"]) == ("u8", "u4", "u8")
    with pytest.raises(PassError, match="quantize: 9 bits, 2 to 8 are supported"):
        simulated(net.finish([net.x]), activation_bits=9)


def dead_relu(net: Net, bits: int, weights: float = 1.0) -> tuple[Array, Array, Graph]:
    """conv(relu(conv(x) - 50)): the bias alone; (the bias, the outputs, the integer graph)."""
    low = net.add(Constant.of(np.array([-50, -60], np.float32)))
    bias = np.array([0.05, -0.1], np.float32)
    w = net.add(Constant.of(net.rng.normal(size=(2, 1, 1, 2)).astype(np.float32)))
    v = net.add(Constant.of((weights * net.rng.normal(size=(2, 1, 1, 2))).astype(np.float32)))
    plain = {"stride": (1, 1), "pad": (0,) * 4, "dilation": (1, 1), "groups": 1}
    r = net.add(Relu(net.add(Conv(net.x, w, low, **plain), "c")), "r")
    graph = net.finish([net.add(Conv(r, v, net.add(Constant.of(bias)), **plain), "y")])
    x = samples(graph, 8)
    pairs = QuantizeGraph(calibrate(graph, x, "mse"), weight_bits=bits, activation_bits=bits)
    integer = Manager().run(Manager().run(graph, [pairs]), TO_INTEGER)
    outputs = [
        dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [v[None]])))[0]
        for v in x
    ]
    return bias, np.stack(outputs), integer


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("weights", [0.0, 1e-6, 1.0])
def test_behind_a_value_that_was_zero_throughout_the_bias_is_kept(
    bits: int, weights: float
) -> None:
    bias, outputs, integer = dead_relu(Net(), bits, weights)
    assert all(0 < float(v.type.quant.scale.array) < 1 for v in integer.outputs)
    assert np.abs(outputs - bias).max() <= float(integer.outputs[0].type.quant.scale.array) / 2


def test_a_value_that_was_zero_takes_no_bits_from_what_it_is_added_to() -> None:
    net = Net()
    small = net.add(Constant.of(np.float32(1e-6)))
    a = net.add(Mul(net.x, small), "a")
    zero = net.add(Relu(net.add(Sub(net.add(Clip(net.x, -1.0, 1.0)), net.add(
        Constant.of(np.full((1, 4, 4, 2), 2, np.float32)))))), "zero")  # fmt: skip
    graph = net.finish([net.add(Add(a, zero), "y")])
    x = samples(graph, 8)
    integer = Manager().run(simulated(graph), TO_INTEGER)
    y = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [x[:1]])))[0]
    step = float(integer.outputs[0].type.quant.scale.array)
    assert step < 1e-7 and np.abs(y - x[:1] * np.float32(1e-6)).max() < 2.1 * step


def test_ranges_of_zeros_alone_have_a_valid_scale() -> None:
    net = Net()
    graph = net.finish([net.add(Relu(net.conv(net.x, "c")), "r")])
    ranges = calibrate(graph, np.zeros((3, 4, 4, 2)), "mse")
    integer = Manager().run(Manager().run(graph, [QuantizeGraph(ranges)]), TO_INTEGER)
    (y,) = interpret(integer, quantize_inputs(integer, [np.zeros((1, 4, 4, 2), np.float32)]))
    assert not np.any(dequantize_outputs(integer, [y])[0])


def test_without_ranges_the_edges_are_named() -> None:
    net = Net()
    graph = net.finish([net.add(Relu(net.conv(net.x, "c")), "r")])
    with pytest.raises(PassError, match=r"2 values have no quantization.*\n  relu %r\n  input %x"):
        QuantizeGraph().run(graph, None)  # type: ignore[arg-type]


def test_a_model_with_all_its_pairs_keeps_them_and_needs_no_ranges() -> None:
    net = Net()
    done = simulated(net.finish([net.add(Relu(net.conv(net.x, "c")), "r")]))
    assert Manager().run(done, [QuantizeGraph()]).canonical() == done.canonical()


def test_edges_that_a_model_left_out_are_filled_in() -> None:
    net = Net()
    to = Quant.per_tensor(U8, 0.5, 100)
    filled = net.add(Dequantize(net.add(Quantize(net.x, to, Rounding.HALF_EVEN))))
    graph = net.finish([net.add(Relu(net.conv(filled, "c")), "r")])
    pairs = simulated(graph)
    assert next(op.to for op in pairs.ops if isinstance(op, Quantize)) == to
    assert sum(isinstance(op, Quantize) for op in pairs.ops) == 2


@given(st.integers(0, 10_000), st.integers(2, 8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_weights_are_the_nearest_integers(seed: int, bits: int, per_channel: bool) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=(5, 7)) * 10.0 ** rng.integers(-6, 3, (5, 1))).astype(np.float32)
    stored = quantize_weights(w, bits, per_channel, False, None, 1.0).weights
    quant = stored.elem
    assert isinstance(quant, Quant)
    real = dequantized(stored.value.array, quant)
    step = np.broadcast_to(quant.scale.array.reshape(-1, 1), w.shape)
    top = 2 ** (bits - 1) - 1
    inside = (w <= step * (top + 0.5)) & (w >= -step * (top + 1.5))
    assert np.all(np.abs(real - w)[inside] <= 0.5001 * step[inside])
    assert stored.value.array.min() >= -top - 1 and stored.value.array.max() <= top


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_by_group_have_two_to_the_bits_levels(bits: int) -> None:
    w = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
    stored = quantize_weights(w, bits, True, False, None, 1.0, 64)
    assert isinstance(stored.weights.elem, Quant) and stored.weights.elem.storage.bits == bits
    levels = np.unique(stored.weights.value.array)
    assert levels.min() >= -(2 ** (bits - 1)) and levels.max() <= 2 ** (bits - 1) - 1


def squared_error(w: Array, **options: bool) -> float:
    stored = quantize_weights(w, 4, True, options["clip"], None, 1.0).weights
    assert isinstance(stored.elem, Quant)
    return float(((dequantized(stored.value.array, stored.elem) - w) ** 2).sum())


def test_clipping_pays_at_few_bits() -> None:
    w = np.random.default_rng(0).laplace(size=(8, 400)).astype(np.float32)
    assert squared_error(w, clip=True) < 0.8 * squared_error(w, clip=False)


def test_the_full_range_is_used_where_it_is_better() -> None:
    w = np.array([[-1.28, 1.27, 0.01]], np.float32)
    stored = quantize_weights(w, 8, True, False, None, 1.0).weights
    np.testing.assert_array_equal(stored.value.array, [[-128, 127, 1]])


def test_a_channel_that_is_almost_zero_keeps_its_bias_within_32_bits() -> None:
    w = np.array([[1e-20, -1e-21], [0.0, 0.0], [1.0, 0.5]], np.float32)
    stored = quantize_weights(w, 8, True, False, np.array([3.0, -2.0, 0.1]), 0.01).weights
    assert isinstance(stored.elem, Quant)
    steps = np.array([3.0, -2.0, 0.1]) / (0.01 * stored.elem.scale.array)
    assert np.abs(steps).max() < 2**30
    assert stored.elem.storage == I8 and re.match("q<i8, axis=0", str(stored.elem))


def test_weights_on_a_grid_stay_exactly_on_it() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-60, 120, (6, 50))
    w = (values * np.float32(0.0137)).astype(np.float32)
    stored = quantize_weights(w, 8, True, False, None, 1.0).weights
    np.testing.assert_array_equal(stored.value.array, values)
