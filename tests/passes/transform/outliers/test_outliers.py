"""Passes that treat outliers: claims on random transformers, effects on channels, the choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.arguments import outliers_of
from qir.ir.errors import DataError
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret
from qir.ir.op import Value
from qir.ir.ops import Add, Attention, Constant, Gelu, Hadamard, LayerNorm, Linear, Mul
from qir.ir.ranges import prove_no_overflow
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes import pipelines
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Pass, distance, divisors, restored
from qir.passes.quantize.place_rows import Scales, row_passes
from qir.passes.transform.blocks.rotate_heads import RotateKeys
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.outliers.choose_outliers import ChooseOutliers
from qir.passes.transform.outliers.inject_outliers import InjectOutliers
from qir.passes.transform.outliers.methods import Outliers, outlier_passes
from qir.passes.transform.outliers.os_plus import OutlierSuppression
from qir.passes.transform.outliers.rotate_products import RotateProducts, greatest_block
from qir.passes.transform.outliers.rotate_residual import RotateResidual
from qir.passes.transform.outliers.smooth_quant import SmoothQuant
from qir.passes.transform.outliers.tie_classes import TieClass, tie_classes
from tests.float_decoders import float_graph, random_decoder

COUNT = 12
TOKENS = np.random.default_rng(1).integers(0, 40, (16, COUNT)).astype(np.int32)
DECODERS = {
    "groups": {"heads": 4, "kv_heads": 2},
    "one for each": {"heads": 3, "kv_heads": 3, "size": 8},
    "one for all": {"heads": 4, "kv_heads": 1, "size": 4, "is_tied": False},
}


def encoder() -> tuple[Graph, Array]:
    """A layer with biases and layer norms, and samples of its input."""
    rng, b, width = np.random.default_rng(2), Builder("encoder", "canonical"), 16

    def linear(x: Value, size: int) -> Value:
        parts = rng.standard_normal((size, x.type.shape[-1])) / 4, rng.standard_normal(size)
        return b.add(Linear(x, *(b.add(Constant.of(p.astype(np.float32))) for p in parts)))

    def norm(x: Value) -> Value:
        parts = rng.uniform(0.5, 1.5, width), rng.standard_normal(width)
        gain, offset = (b.add(Constant.of(p.astype(np.float32))) for p in parts)
        return b.add(LayerNorm(x, gain, offset, 1e-5))

    x = b.input("x", Tensor((1, 6, width), F32))
    q, k, v = (linear(y, width) for y in [norm(x)] * 3)
    heads = b.add(Attention(q, k, v, None, None, None, 2, 2, 0.4, False, 0))
    x = b.add(Add(x, linear(heads, width)))
    graph = b.finish([b.add(Add(x, linear(b.add(Gelu(linear(norm(x), 24), False)), width)))])
    return graph, rng.standard_normal((32, 6, width)).astype(np.float32)


def model(name: str) -> tuple[Graph, Array]:
    if name == "encoder":
        return encoder()
    return float_graph(random_decoder(**DECODERS[name]), 1, COUNT), TOKENS  # type: ignore[arg-type]


def passes(sample: Array) -> list[Pass]:
    data = (sample,)
    return [
        SmoothQuant(data), OutlierSuppression(data), ChooseOutliers(data),
        ChooseOutliers(data, 4, True), InjectOutliers(everywhere=True),
    ]  # fmt: skip


def quantized(graph: Graph, sample: Array, scales: Scales = Scales.AUTO) -> tuple[Graph, Graph]:
    """The simulated and the integer graph."""
    graph, manager = graph.at_stage("transformed"), Manager()
    ranges = calibrate(graph, [sample], "min-max")
    simulated = manager.run(graph, pipelines.quantize(ranges, rows=row_passes(graph, scales)))
    return simulated, manager.run(simulated, pipelines.TO_INTEGER)


def noise(before: Graph, after: Graph, sample: Array) -> float:
    """The squared error of a simulated graph over the squares of what it simulates."""
    pairs = [(run_float(before, [x[None]])[0], run_float(after, [x[None]])[0]) for x in sample[:8]]
    wrong = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return wrong / sum(float((a**2).sum()) for a, _ in pairs)


@pytest.mark.parametrize("name", [*DECODERS, "encoder"])
def test_outputs_stay_and_values_go_back(name: str) -> None:
    usual, sample = model(name)
    hard = Manager().run(usual, [InjectOutliers(everywhere=True)])
    for one in passes(sample):
        before = hard if isinstance(one, ChooseOutliers) else usual  # it leaves alone what is well
        manager = Manager(check=True, samples=(sample[:1],))
        after = manager.run(before, [one])
        (record,) = manager.records
        assert record.rewrites and record.error is not None and record.error < 1e-4, one.name
        divided = divisors(manager.records)
        outputs = tuple(v for v in after.values if v.name in divided)
        assert len(outputs) == len(divided)
        runs = []
        for graph in (before, after):
            values = tuple(v for v in graph.values if v.name in divided)
            whole = replace(graph, outputs=values, output_names=tuple(v.name for v in values))
            results = run_float(whole, [sample[:1]])
            runs.append(dict(zip(whole.output_names, results, strict=True)))
        for value, by in divided.items():
            assert distance([runs[0][value]], [restored(runs[1][value], by)]) < 1e-4, one.name


def test_classes_of_a_layer() -> None:
    """Norm to q, k, v; values to o, one channel of a key-value head for those of its queries; norm
    to gate and up; up through the product to down. A head that is tied has none."""
    graph, _ = model("groups")
    classes = [one for one in tie_classes(graph) if isinstance(one, TieClass)]
    readers = [[op.names[0].removeprefix("layer0_") for op in one.consumers] for one in classes[:4]]
    assert readers == [["q", "k", "v"], ["o"], ["gate", "up"], ["down"]]
    assert [one.width for one in classes[:4]] == [32, 16, 32, 96]
    assert classes[1].spread.tolist() == [*range(8), *range(8), *range(8, 16), *range(8, 16)]
    assert len(classes) == 8
    shown = str(classes[2]).split(" -> ")[1]
    assert shown == "%layer0_gate, %layer0_up"


def test_smoothing_makes_channels_alike() -> None:
    before, _ = model("groups")
    hard = Manager().run(before, [InjectOutliers(everywhere=True)])
    names = {one.value.name for one in tie_classes(hard) if isinstance(one, TieClass)}
    spreads = []
    for graph in (before, hard, Manager().run(hard, [SmoothQuant((TOKENS,), 1.0)])):
        reach = channel_reach(graph, (TOKENS,), names)
        spreads.append([r.of_all.max() / np.median(r.of_all) for r in reach.values()])
    assert np.min(spreads[1]) > 8 > np.max(spreads[0])
    assert np.allclose(spreads[2], 1.0, atol=1e-3)


def test_rotations_at_run_time() -> None:
    """Exact sums between what is stored and the codes of rows."""
    before, _ = model("groups")
    manager = Manager(check=True, samples=(TOKENS[:1],))
    after = manager.run(before, [RotateKeys((TOKENS,)), RotateProducts()])
    assert [r.rewrites for r in manager.records] == [2, 2]
    assert max(r.error or 1.0 for r in manager.records) < 1e-4
    _, integer = quantized(after, TOKENS)
    sizes = [op.size for op in integer.ops if isinstance(op, Hadamard)]
    assert sorted(sizes) == [8, 8, 8, 8, 96, 96]
    assert prove_no_overflow(integer)
    expected = run_float(before, [TOKENS[:1]])[0]
    outputs = dequantize_outputs(integer, interpret(integer, [TOKENS[:1]]))[0]
    assert 10 * np.log10((expected**2).sum() / ((expected - outputs) ** 2).sum()) > 25


def test_blocks_of_widths_without_a_matrix() -> None:
    assert [greatest_block(width) for width in (1, 6, 96, 172, 1536)] == [1, 2, 96, 4, 1536]


@pytest.mark.parametrize("scales", [Scales.AUTO, Scales.STATIC])
def test_what_is_chosen_undoes_injected_outliers(scales: Scales) -> None:
    before, _ = model("groups")
    hard = Manager().run(before, [InjectOutliers(everywhere=True)])
    is_static = scales is Scales.STATIC
    manager = Manager()
    soft = manager.run(hard, [ChooseOutliers((TOKENS,), 8, is_static)])
    (record,) = manager.records
    assert len(record.notes) == record.rewrites >= 6
    assert all("greatest channel over the median" in n or "rotate" in n for n in record.notes)
    usual, worse, better = (
        noise(g, quantized(g, TOKENS, scales)[0], TOKENS) for g in (before, hard, soft)
    )
    assert worse > 4 * usual > 2 * better


def test_products_with_outliers_of_single_tokens_are_rotated() -> None:
    """Each channel is large for some token, so that none can be divided; others are left alone."""
    rng, b, width = np.random.default_rng(4), Builder("gates", "canonical"), 64

    def linear(x: Value) -> Value:
        w = rng.standard_normal((width, width)).astype(np.float32) / 8
        return b.add(Linear(x, b.add(Constant.of(w)), None))

    ports = [b.input(name, Tensor((1, COUNT, width), F32)) for name in ("x", "rare", "even")]
    products = [b.add(Mul(gate, linear(ports[0])), f"by_{gate.name}") for gate in ports[1:]]
    graph = b.finish([linear(product) for product in products])
    x, rare = rng.standard_normal((2, 32, COUNT, width)).astype(np.float32)
    rare *= np.where(rng.random(rare.shape) < 0.03, 40, 1)
    samples = x, rare, np.ones_like(x)
    manager = Manager(check=True, samples=tuple(each[:1] for each in samples))
    after = manager.run(graph, [ChooseOutliers(samples)])
    assert [op.x.name for op in after.ops if isinstance(op, Hadamard)] == ["by_rare"]
    assert any("%by_rare" in n and "rotate-products" in n for n in manager.records[0].notes)


def test_a_rotated_tied_stream_in_integers() -> None:
    """One table; in front of the head the stream is turned back and again, exactly."""
    before, _ = model("groups")
    after = Manager().run(before, [RotateResidual()])
    _, integer = quantized(after, TOKENS)
    turns = [op for op in integer.ops if op.mnemonic == "hadamard"]
    assert [op.result.type.shape[-1] for op in turns] == [32, 32]
    constants = [op for op in integer.ops if isinstance(op, Constant)]
    assert sum(op.value.shape == (40, 32) for op in constants) == 1
    assert prove_no_overflow(integer)
    expected = run_float(before, [TOKENS[:1]])[0]
    outputs = dequantize_outputs(integer, interpret(integer, [TOKENS[:1]]))[0]
    assert 10 * np.log10((expected**2).sum() / ((expected - outputs) ** 2).sum()) > 25


def test_without_a_sample_nothing_is_done() -> None:
    graph, _ = model("groups")
    for one in (SmoothQuant(), OutlierSuppression(), ChooseOutliers()):
        manager = Manager()
        assert manager.run(graph, [one]) == graph
        assert [m.why for m in manager.records[0].misses] == ["no sample is given"]


def test_ways_by_name() -> None:
    assert outliers_of(None) is None
    assert outlier_passes(outliers_of("rotate"), ()) == (RotateResidual(),)
    assert outlier_passes(None, ()) == ()
    assert len(outlier_passes(Outliers.AUTO, (TOKENS,))) == 1
    with pytest.raises(DataError, match="outliers: 'all' given, one of auto, osplus, smoothquant"):
        outliers_of("all")
