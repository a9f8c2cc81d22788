"""From float to integers: random networks, near the simulation, without a crash."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from qir.ir.errors import LowerError, VerifyError
from qir.ir.fixed import Rounding, round_real
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Op
from qir.ir.ops import (
    BatchNorm,
    Constant,
    Conv,
    Dequantize,
    LayerNorm,
    Linear,
    Log,
    Mul,
    NormFixed,
    Quantize,
    ReduceMean,
    Relu,
    Requantize,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Transpose,
)
from qir.ir.ops.kinds import Layer
from qir.ir.ranges import prove_no_overflow
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import F32, I8, U8, Array, Quant, Tensor
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Miss, Record, evaluate
from qir.passes.infra.rebatch import rebatch
from qir.passes.pipelines import TO_INTEGER, quantize, transform
from qir.passes.sensitivity.sqnr import measure_sqnr
from qir.passes.transform.channel_ranges import first_samples
from qir.passes.transform.equalize_channels import EqualizeChannels
from tests.passes.random_floats import random_net, samples

COUNT = 24


def batched(graph: Graph, count: int = COUNT) -> Graph:
    larger = rebatch(graph, count)
    assert not isinstance(larger, Miss), larger
    return larger


def whole_way(graph: Graph, x: Array, bits: int = 8) -> tuple[Graph, Graph, Graph]:
    """(transformed, simulated, integer), by the pipelines."""
    manager = Manager(check=True)
    sample, batches = first_samples(graph, x)
    float_ = manager.run(graph, transform(graph, sample))
    ranges = calibrate(float_, batches, "min-max")
    simulated = manager.run(float_, quantize(ranges, Bits(bits, bits), None, float_, sample))
    return float_, simulated, manager.run(simulated, TO_INTEGER)


def run_integer(graph: Graph, x: Array) -> tuple[Array, ...]:
    return dequantize_outputs(graph, interpret(graph, quantize_inputs(graph, [x])))


def noise(a: Array, b: Array) -> float:
    """|a - b| / |a|, 0 for nothing at all."""
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-6))


def stored_by_simulation(graph: Graph, x: Array) -> dict[str, tuple[Array, Quant]]:
    """What each quantize of a simulated graph stores, by the name that to-integer gives it."""
    values: dict[str, Array] = {}
    FloatProgram(graph)(x, watch=lambda v, y: values.__setitem__(v.name, y.numpy()))
    stored: dict[str, tuple[Array, Quant]] = {}
    for op in graph.ops:
        if isinstance(op, Quantize):
            name = op.x.name if op.x.name not in stored else op.names[0]
            stored[name] = values[op.names[0]], op.to
    return stored


def half_an_accumulator_step(op: Op, producers: Mapping[str, Op]) -> float:
    """In steps of the result: how far the rounding of a bias to whole steps takes it."""
    halves = [0.0]
    for x in op.operands:
        layer = producers.get(x.name)
        if isinstance(layer, Layer) and layer.bias is not None:
            scale = x.type.quant.scale.array / op.result.type.quant.scale.array
            halves.append(float(np.max(scale)) / 2)
    return max(halves)


def assert_each_op_follows(simulated: Graph, integer: Graph, x: Array) -> int:
    """Each integer op, of what the simulation stores in its operands, gives what the simulation
    stores in its result. Tables, moves and softmax do in every bit; a sum or a norm may be a step
    off where its real value is near a tie, and by what a bias is rounded. The number of results
    seen.
    """
    stored = stored_by_simulation(simulated, x)
    env = dict(zip((v.name for v in integer.inputs), quantize_inputs(integer, [x]), strict=True))
    count = 0
    for op in integer.ops:
        name, elem = op.names[0], op.result.type.elem
        env[name] = op.evaluate(*op.unpack(tuple(env[v.name] for v in op.operands)))
        if isinstance(op, Constant) or name not in stored or stored[name][1] != elem:
            continue
        count += 1
        apart = np.abs(env[name].astype(np.int64) - stored[name][0])
        if isinstance(op, Requantize):
            bias = half_an_accumulator_step(op, integer.producers)
            assert apart.max() <= 1 + bias, op
            assert np.count_nonzero(apart) <= 2 + (0.02 + 2 * bias) * apart.size, op
        elif isinstance(op, NormFixed):
            assert apart.max() <= 1 and np.count_nonzero(apart) <= 2 + 0.02 * apart.size, op
        else:
            assert not apart.any(), op
        env[name] = stored[name][0].astype(env[name].dtype)
    return count


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_are_near_their_floats_and_follow_the_simulation(seed: int) -> None:
    graph = random_net(seed)
    x = samples(graph, COUNT)
    float_, simulated, integer = whole_way(graph, x)
    # A norm of few channels enlarges the noise of rows that hardly vary.
    limit = 0.25 if any(isinstance(op, LayerNorm) for op in graph.ops) else 0.12
    reals, integers = evaluate(batched(float_), [x]), run_integer(batched(integer), x)
    for a, c in zip(reals, integers, strict=True):
        assert noise(a, c) < limit
    assert assert_each_op_follows(batched(simulated), batched(integer), x)
    prove_no_overflow(integer)


@pytest.mark.parametrize("seed", range(40, 52))
def test_at_four_bits_ops_follow_the_simulation_beyond_the_calibrated_ranges(seed: int) -> None:
    graph = random_net(seed)
    _, simulated, integer = whole_way(graph, samples(graph, COUNT), bits=4)
    x = samples(graph, COUNT, 1) * 3
    assert assert_each_op_follows(batched(simulated), batched(integer), x)


def one_conv(depth: int = 2, quantum: float = 0.5) -> tuple[Graph, Quant]:
    b = Builder("one", "canonical")
    x = b.input("x", Tensor((1, 3, 3, depth), F32))
    rng = np.random.default_rng(0)
    w = b.add(Constant.of(rng.normal(size=(4, 2, 2, depth)).astype(np.float32)))
    bias = b.add(Constant.of(rng.normal(size=4).astype(np.float32)))
    y = b.add(Conv(x, w, bias, (1, 1), (0, 1, 1, 0), (1, 1), 1), "c")
    return b.finish([b.add(Relu(y), "r")]), Quant.per_tensor(U8, quantum, 0)


def test_one_layer_equals_the_simulation_but_for_ties() -> None:
    graph, _ = one_conv()
    x = samples(graph, 200)
    ranges = calibrate(graph, x, "min-max")
    simulated = Manager().run(graph, quantize(ranges))
    integer = Manager().run(simulated, TO_INTEGER)
    a = evaluate(batched(simulated, 200), [x])[0]
    b = run_integer(batched(integer, 200), x)[0]
    step = float(integer.outputs[0].type.quant.scale.array)
    assert np.abs(a - b).max() < 1.01 * step and np.mean(np.abs(a - b) > step / 2) < 2e-3


def test_ties_of_a_mean_that_keeps_its_scale_go_where_the_quantize_says() -> None:
    """Against exact fractions: (sum of 4 stored) / 4, of which a quarter are ties."""
    quant = Quant.per_tensor(U8, 0.3, 7)
    x = np.random.default_rng(0).integers(0, 256, (200, 4))
    for rounding in Rounding:
        b = Builder("mean", "simulated")
        real = b.input("x", Tensor((200, 4), F32))
        stored = b.add(Dequantize(b.add(Quantize(real, quant, Rounding.HALF_EVEN))))
        mean = b.add(Quantize(b.add(ReduceMean(stored, (1,), False)), quant, rounding))
        graph = Manager().run(b.finish([b.add(Dequantize(mean))]), TO_INTEGER)
        (y,) = interpret(graph, [x.astype(np.uint8)])
        assert np.array_equal(y, round_real((x - 7).sum(1) / 4, rounding) + 7), rounding


def test_where_no_tie_can_be_rounding_is_half_up() -> None:
    """The fast kernels' rule, of the same bits there."""
    graph, _ = one_conv()
    x = samples(graph, 8)
    ranges = calibrate(graph, x, "min-max")
    integer = Manager().run(Manager().run(graph, quantize(ranges)), TO_INTEGER)
    assert {op.rounding for op in integer.ops if isinstance(op, Requantize)} == {Rounding.HALF_UP}


def test_overflow_is_refused_with_the_bound_and_the_limit() -> None:
    b = Builder("wide", "simulated")
    to = Quant.per_tensor(U8, 0.5, 0)
    x = b.add(Quantize(b.input("x", Tensor((1, 70000), F32)), to, Rounding.HALF_EVEN))
    w = Constant.of(np.full((1, 70000), 127, np.int8), Quant.per_tensor(I8, 0.5, 0))
    y = b.add(Linear(b.add(Dequantize(x)), b.add(Dequantize(b.add(w))), None), "y")
    q = b.add(Quantize(y, to, Rounding.HALF_EVEN))
    graph = b.finish([b.add(Dequantize(q))])
    with pytest.raises(VerifyError, match=r"accumulator.* reaches \[0, 2266950000\], i32 "):
        Manager().run(graph, TO_INTEGER)


def test_a_table_takes_the_nearest_defined_value_where_a_function_has_none() -> None:
    b = Builder("log", "canonical")
    graph = b.finish([b.add(Log(b.input("x", Tensor((1, 4), F32))), "y")])
    x = np.linspace(0.5, 4, 40, dtype=np.float32).reshape(10, 4)
    _, _, integer = whole_way(graph, np.concatenate([x, x]))
    stored = run_integer(batched(integer, 1), np.array([[-5.0, 0.0, 1.0, 4.0]], np.float32))[0][0]
    assert stored[0] == stored[1] <= stored[2] < stored[3]


def test_equalizing_keeps_the_function_and_lessens_the_noise() -> None:
    b = Builder("pair", "canonical")
    x = b.input("x", Tensor((1, 4, 4, 3), F32))
    rng = np.random.default_rng(0)
    uneven = 10.0 ** rng.uniform(-2, 2, 8)
    first = (rng.normal(size=(8, 1, 1, 3)) * uneven[:, None, None, None]).astype(np.float32)
    second = (rng.normal(size=(5, 1, 1, 8)) / uneven).astype(np.float32)
    h = b.add(Conv(x, b.add(Constant.of(first)), None, (1, 1), (0,) * 4, (1, 1), 1), "h")
    r = b.add(Relu(h), "r")
    y = b.add(Conv(r, b.add(Constant.of(second)), None, (1, 1), (0,) * 4, (1, 1), 1), "y")
    graph = b.finish([y])
    data = samples(graph, COUNT)
    record = Record("equalize-channels", EqualizeChannels.claim)
    assert EqualizeChannels().run(graph, record) is graph
    assert "no channel ranges were observed" in {m.why for m in record.misses}
    equalized, _, integer = whole_way(graph, data)
    plain = Manager().run(Manager().run(graph, quantize(calibrate(graph, data))), TO_INTEGER)
    reals = evaluate(batched(graph), [data])[0]
    after = noise(reals, run_integer(batched(integer), data)[0])
    assert after < 0.25 * noise(reals, run_integer(batched(plain), data)[0])
    np.testing.assert_allclose(evaluate(batched(equalized), [data])[0], reals, rtol=1e-3, atol=1e-3)


def test_sqnr_finds_the_bad_layer() -> None:
    graph, _ = one_conv()
    x = samples(graph, 10)
    float_, _, integer = whole_way(graph, x)
    sqnr = measure_sqnr(float_, integer, x)
    assert [s.op.names[0] for s in sqnr] == ["r"]
    reals, integers = evaluate(batched(float_, 10), [x])[0], run_integer(batched(integer, 10), x)[0]
    assert sqnr[0].decibels == pytest.approx(-20 * np.log10(noise(reals, integers)), abs=1e-3)
    assert sqnr[0].elements == reals.size
    net, x = random_net(7), samples(random_net(7), 9)
    several = [s.decibels for s in measure_sqnr(*whole_way(net, x)[::2], x)]
    assert several == sorted(several) and len(several) > 3


def test_only_graphs_whose_samples_go_alone_are_remade() -> None:
    graph, _ = one_conv()
    assert batched(graph, 3).inputs[0].type.shape == (3, 3, 3, 2)
    b = Builder("mixed", "canonical")
    x = b.input("x", Tensor((2, 4), F32))
    for op in (
        Reshape(x, (4, 2)),
        Transpose(x, (1, 0)),
        Slice(x, (1, 0), (2, 4), (1, 1)),
        ReduceMean(x, (0,), True),
    ):
        b = Builder("mixed", "canonical")
        b.input("x", x.type)
        assert isinstance(rebatch(b.finish([b.add(op)]), 3), Miss)


def test_an_input_that_nothing_reads_has_a_type() -> None:
    b = Builder("two", "canonical")
    x, _ = (b.input(n, Tensor((1, 4), F32)) for n in ("x", "unread"))
    graph = b.finish([b.add(Relu(x), "y")])
    ranges = calibrate(graph, [(np.ones((3, 4)), np.ones((3, 4)))], "min-max")
    integer = Manager().run(Manager().run(graph, quantize(ranges)), TO_INTEGER)
    assert [str(v.type.quant.storage) for v in integer.inputs] == ["u8", "u8"]


def test_floor_behind_a_table_or_a_sum_is_floor() -> None:
    """Against NumPy on all 256 values: no half is added where the quantize rounds down."""
    given, kept = Quant.per_tensor(U8, 0.05, 128), Quant.per_tensor(U8, 1 / 256, 0)
    x = np.arange(256, dtype=np.uint8)
    reals = (x.astype(np.float64) - 128) * 0.05
    for op, function in ((Sigmoid, lambda v: 1 / (1 + np.exp(-v))), (Relu, lambda v: v.clip(0))):
        b = Builder("floor", "simulated")
        real = b.input("x", Tensor((256,), F32))
        stored = b.add(Dequantize(b.add(Quantize(real, given, Rounding.HALF_EVEN))))
        y = b.add(Dequantize(b.add(Quantize(b.add(op(stored)), kept, Rounding.FLOOR))))
        (actual,) = interpret(Manager().run(b.finish([y]), TO_INTEGER), [x])
        expected = np.clip(np.floor(256 * function(reals)), 0, 255)
        on_a_step = np.abs(256 * function(reals) - np.rint(256 * function(reals))) < 1e-4
        assert np.array_equal(actual[~on_a_step], expected[~on_a_step]), op
        assert on_a_step.sum() <= 2 or op is Relu


def test_floor_of_a_softmax_is_refused() -> None:
    b = Builder("floor", "simulated")
    quant = Quant.per_tensor(U8, 0.05, 128)
    real = b.input("x", Tensor((4,), F32))
    stored = b.add(Dequantize(b.add(Quantize(real, quant, Rounding.HALF_EVEN))))
    y = b.add(Quantize(b.add(Softmax(stored)), quant, Rounding.FLOOR))
    with pytest.raises(LowerError, match="rounding = floor of a result that is rounded half up"):
        Manager().run(b.finish([b.add(Dequantize(y))]), TO_INTEGER)


def test_a_function_that_a_constant_widens_is_stored_before() -> None:
    """sigmoid(x) * c, x (N, 1), c (C,): no table is of two shapes."""
    b = Builder("wide", "transformed")
    x = b.input("x", Tensor((1, 1), F32))
    c = np.array([1.0, 2.0, 3.0], np.float32)
    graph = b.finish([b.add(Mul(b.add(Sigmoid(x)), b.add(Constant.of(c))), "y")])
    data = np.linspace(-4, 4, 50, dtype=np.float32)[:, None]
    _, _, integer = whole_way(graph, data)
    (y,) = run_integer(batched(integer, 50), data)
    assert np.abs(y - c / (1 + np.exp(-data))).max() < 0.03


def test_parameters_of_a_batch_norm_may_be_stored_constants() -> None:
    b = Builder("norm", "simulated")
    to = Quant.per_tensor(U8, 0.1, 100)
    real = b.input("x", Tensor((256, 2), F32))
    x = b.add(Dequantize(b.add(Quantize(real, to, Rounding.HALF_EVEN))))
    gain = Constant.of(np.array([90, 40], np.int8), Quant.per_tensor(I8, 0.01, 0))
    rest = [b.add(Constant.of(np.array(v, np.float32))) for v in ([1, 0], [2, 3], [4, 1])]
    y = b.add(BatchNorm(x, b.add(Dequantize(b.add(gain))), *rest, 0.0))
    integer = Manager().run(
        b.finish([b.add(Dequantize(b.add(Quantize(y, to, Rounding.HALF_EVEN))))]), TO_INTEGER
    )
    stored = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 2, 1)
    (actual,) = interpret(integer, [stored])
    reals = (stored - 100.0) * 0.1
    expected = (reals - [2, 3]) / np.sqrt([4, 1]) * [0.9, 0.4] + [1, 0]
    assert np.abs(actual - np.clip(expected / 0.1 + 100, 0, 255)).max() < 0.5001
