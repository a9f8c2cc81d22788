"""Outlier columns that break a scale a channel: found among siblings, mended, nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.ops import Constant, Linear, Relu, ScaleGroups
from qir.ir.ops.quantize import dequantized
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes import pipelines
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Record
from qir.passes.quantize.rescue_groups import (
    RescueGroups,
    column_ratio,
    fence,
    find_outliers,
    float_weights,
    row_ratio,
)  # fmt: skip

CHANNELS, LAYERS = 384, 6
W8G = Bits(8, 8, 32)


def net(planted: tuple[str, ...] = ("l2",), size: float = 200.0) -> Graph:
    """Linear layers and ReLUs; planted ones have a column of large weights, on an input that is
    as small: what the float net computes is ordinary.
    """
    rng, b = np.random.default_rng(0), Builder("net", "transformed")
    x = b.input("x", Tensor((4, CHANNELS), F32))
    weights = {f"l{i}": rng.normal(size=(CHANNELS, CHANNELS)) / 14 for i in range(LAYERS)}
    for i in range(LAYERS):
        if f"l{i}" in planted:
            weights[f"l{i}"][:, 90] *= size
            if i:
                weights[f"l{i - 1}"][90, :] /= size
    for i in range(LAYERS):
        w = b.add(Constant.of(weights[f"l{i}"].astype(np.float32)), f"w{i}")
        y = b.add(Linear(x, w, None), f"l{i}")
        x = b.add(Relu(y)) if i < LAYERS - 1 else y
    return b.finish([x])


def data(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(64, CHANNELS)).astype(np.float32)


def quantized(graph: Graph, *rescue: RescueGroups) -> Graph:
    ranges = calibrate(graph, [data(1)])
    pairs = pipelines.quantize(ranges, reference=graph, sample=(data(1),), rounding=rescue)
    return Manager().run(graph, pairs)


def output_sqnr(graph: Graph, simulated: Graph) -> float:
    """dB, of the integers that the interpreter gives."""
    integer = Manager().run(simulated, pipelines.TO_INTEGER)
    signal = noise = 0.0
    for part in np.split(data(2), 16):
        (expected,) = run_float(graph, (part,))
        (stored,) = interpret(integer, quantize_inputs(integer, (part,)))
        actual = dequantized(stored, integer.outputs[0].type.quant)
        signal, noise = signal + (expected**2).sum(), noise + ((actual - expected) ** 2).sum()
    return 10 * float(np.log10(signal / noise))


def grouped(graph: Graph) -> list[str]:
    """The layers whose weights come through scale_groups."""
    scaled = {op.names[0] for op in graph.ops if isinstance(op, ScaleGroups)}
    operands_by_op = {op.names[0]: {v.name for v in op.operands} for op in graph.ops}
    return [
        op.names[0]
        for op in graph.ops
        if isinstance(op, Linear) and operands_by_op[op.w.name] & scaled
    ]


def test_a_scale_a_channel_breaks_and_groups_mend() -> None:
    sound, broken = net(planted=()), net()
    healthy = output_sqnr(sound, quantized(sound))
    before = output_sqnr(broken, quantized(broken))
    after = quantized(broken, RescueGroups(broken, group=32))
    assert grouped(after) == ["l2"]
    mended = output_sqnr(broken, after)
    assert healthy > 30 and before < 12
    assert mended > before + 9  # the 11 of 12 groups that the large weights are not in


def test_only_the_layer_that_is_named_changes() -> None:
    graph = net()
    plain = Manager().run(graph, [*pipelines.quantize(calibrate(graph, [data(1)])).passes])
    record = Record("rescue-groups", RescueGroups.claim)
    after = RescueGroups(graph, group=32).run(plain, record)
    assert record.rewrites == 1 and grouped(after) == ["l2"]
    assert len(after.ops) == len(plain.ops) + 2  # the integers of the groups, and their product
    before = {op.names[0]: op for op in plain.ops}
    changed = [
        op.names[0]
        for op in after.ops
        if isinstance(op, Constant) and op.names[0] in before and op != before[op.names[0]]
    ]
    assert not changed


def test_on_a_float_graph_quantize_graph_leaves_them_as_they_are() -> None:
    graph = net()
    early = Manager().run(graph, [RescueGroups(group=32)])
    ranges = calibrate(early, [data(1)])
    simulated = Manager().run(early, pipelines.quantize(ranges))
    assert grouped(early) == grouped(simulated) == ["l2"]
    assert output_sqnr(graph, simulated) > 16


def test_why_a_layer_is_found() -> None:
    outliers = find_outliers(net(), W8G)
    assert list(outliers) == ["l2"]
    assert outliers["l2"].before < 5 and outliers["l2"].after > 13
    assert str(outliers["l2"]).startswith("column ratio is ")
    assert "its siblings' fence" in str(outliers["l2"])


def test_rows_of_few_large_weights_are_found_too() -> None:
    rng, b = np.random.default_rng(0), Builder("net", "transformed")
    x = b.input("x", Tensor((1, CHANNELS), F32))
    for i in range(4):
        w = rng.normal(size=(CHANNELS, CHANNELS))
        if i == 1:  # in each row another column: no column stands out
            w[np.arange(CHANNELS), np.arange(CHANNELS)] = 150
        x = b.add(Linear(x, b.add(Constant.of(w.astype(np.float32))), None), f"l{i}")
    outliers = find_outliers(b.finish([x]), W8G)
    assert [str(one)[:9] for one in outliers.values()] == ["row ratio"] and list(outliers) == ["l1"]


def test_at_most_a_share_of_the_layers_and_those_that_gain_most() -> None:
    graph = net(("l2", "l4"))
    both = find_outliers(graph, W8G, share=0.5)
    assert set(both) <= {"l1", "l2", "l3", "l4"}
    one = find_outliers(graph, W8G, share=0.03)
    gains = {name: o.after - o.before for name, o in both.items()}
    assert list(one) == [max(gains, key=lambda n: gains[n])]


def test_a_layer_that_gains_too_little_is_left() -> None:
    assert not find_outliers(net(), W8G, least_gain=100.0)


def test_a_layer_that_is_good_enough_is_left() -> None:
    """Far out, but a column of five times the others leaves them more than 30 dB."""
    graph = net(size=5.0)
    assert column_ratio(float_weights(graph)["l2"]) > fence([1.2] * 5)
    assert not find_outliers(graph, W8G)
    assert list(find_outliers(graph, Bits(4, 8, 32), least_gain=1.0)) == ["l2"]


def test_statistics() -> None:
    w = np.ones((4, 6))
    w[1, 2] = -9
    w[:, 5] = 1e-30
    assert column_ratio(w) == 9.0
    assert column_ratio(np.zeros((2, 3))) == row_ratio(np.zeros((2, 3))) == 1.0
    assert row_ratio(np.array([[1.0, 2, 3, 4, 5]])) == 2.0
    assert fence([]) == 8.0
    assert fence([1.0, 1.0, 1.0]) == 2.0
    assert fence([1.0, 2.0, 3.0, 4.0, 5.0]) == 4 + 3 * 2


def test_errors() -> None:
    graph = net()
    for options, said in (
        ({"group": 16}, "option group: found 16, 32 to 128 is needed"),
        ({"share": 0.0}, "share 0, more than 0 up to 1 is needed"),
        ({"weight_bits": 9}, "9 bits, 2 to 8 are supported"),
    ):
        with pytest.raises(PassError, match=said):
            Manager().run(graph, [RescueGroups(**options)])  # type: ignore[arg-type]


def test_by_default_the_width_of_the_layer_is_kept() -> None:
    """On a simulated graph; on a float graph it is 8."""
    graph = net()
    ranges = calibrate(graph, [data(1)])
    for bits in (4, 8):
        pairs = pipelines.quantize(ranges, Bits(bits, 8), rounding=(RescueGroups(graph, group=32),))
        after = Manager().run(graph, pairs)
        assert grouped(after) == ["l2"]
        (scaled,) = [op for op in after.ops if isinstance(op, ScaleGroups)]
        assert scaled.w.type.quant.storage.bits == bits
    (scaled,) = [op for op in RescueGroups(group=32).run(graph, record()).ops
                 if isinstance(op, ScaleGroups)]  # fmt: skip
    assert scaled.w.type.quant.storage.bits == 8


def record() -> Record:
    return Record("rescue-groups", RescueGroups.claim)
