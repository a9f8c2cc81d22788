"""rotate-residual: the same logits, a stream whose channels reach alike, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Constant, Hadamard, Linear, RmsNorm, Silu, Take
from qir.ir.torch_executor import run_float
from qir.ir.types import Array
from qir.passes.infra.manager import Manager, distance, divisors, restored
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.outliers.rotate_residual import RotateResidual, orthogonal
from tests.float_decoders import float_graph, random_decoder

COUNT = 12
TOKENS = np.random.default_rng(1).integers(0, 40, (16, COUNT)).astype(np.int32)


def with_outlier(graph: Graph, factor: float) -> Graph:
    """The graph with one channel of its embedding times a factor."""

    def other(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Constant) or op.names[0] != "embedding":
            return op
        table = op.value.array.copy()
        table[:, 3] *= factor
        return Constant.of(table)

    return graph.mapped(other)


def rotated(graph: Graph) -> tuple[Graph, Manager]:
    manager = Manager(check=True, samples=(TOKENS[:1],))
    reach = channel_reach(graph, (TOKENS,))
    return manager.run(graph, [RotateResidual(reach)]), manager


def test_outliers_are_spread_over_all_channels() -> None:
    before = with_outlier(float_graph(random_decoder(), 1, COUNT), 60.0)
    after, manager = rotated(before)
    (record,) = manager.records
    assert record.rewrites == 1 and record.error is not None and record.error < 1e-5
    for graph, least, most in ((before, 20, 1000), (after, 1, 2)):
        reach = channel_reach(graph, (TOKENS,), {"x"})["x"].of_all
        assert least <= reach.max() / np.median(reach) <= most
    gains = [op.gain for op in after.ops if isinstance(op, RmsNorm)]
    assert gains[-1] is not None and set(gains[:-1]) == {None}  # that of the tied head stays


def test_values_go_back_by_their_matrix() -> None:
    before = float_graph(random_decoder(is_tied=False), 1, COUNT)
    after, manager = rotated(before)
    divided = divisors(manager.records)
    assert len(divided) == 2 * 6 + 2  # norms, sums, o and down of each layer; embedding, last norm
    runs: list[dict[str, Array]] = []
    for graph in (before, after):
        outputs = tuple(v for v in graph.values if v.name in divided)
        whole = replace(graph, outputs=outputs, output_names=tuple(v.name for v in outputs))
        results = run_float(whole, [TOKENS[:1]])
        runs.append(dict(zip(whole.output_names, results, strict=True)))
    for name, matrix in divided.items():
        assert distance([runs[0][name]], [restored(runs[1][name], matrix)]) < 1e-5


def test_a_tied_table_stays_one() -> None:
    """The stream is turned back in front of the head's norm, and what the head reads again."""
    graph = float_graph(random_decoder(), 1, COUNT)
    after, manager = rotated(graph)
    assert manager.records[0].rewrites == 1
    (taken,) = (op for op in after.ops if isinstance(op, Take))
    head = next(op for op in reversed(after.ops) if isinstance(op, Linear))
    assert taken.table == head.w
    first, second = (op for op in after.ops if isinstance(op, Hadamard))
    norm = after.producers[second.x.name]
    assert isinstance(norm, RmsNorm) and norm.gain is not None and norm.x == first.result
    assert head.x == second.result and second.names[0] == "rms_norm4"


def test_a_tied_head_of_another_width_stays_where_channels_reach_alike() -> None:
    graph = float_graph(random_decoder(heads=1, kv_heads=1, size=18), 1, COUNT)
    after, manager = rotated(graph)
    assert after is graph
    (miss,) = manager.records[0].misses
    assert miss.why == "its channels reach alike, and a tied head would be stored twice"


def test_another_reader_of_the_stream_prevents_it() -> None:
    graph = float_graph(random_decoder(is_tied=False, layers=1), 1, COUNT)
    b = Builder(graph.name, "canonical")
    now = {v.name: b.input(v.name, v.type) for v in graph.inputs}
    for op in graph.ops:
        (now[op.names[0]],) = b.add_all(op.rebind(lambda v: now[v.name]))
    other = b.add(Silu(now["end0"]), "other")
    more = b.finish([now["logits"], other])
    after, manager = rotated(more)
    assert after is more
    assert [m.why for m in manager.records[0].misses] == ["silu %other reads the stream"] * 3


@pytest.mark.parametrize("width", [1, 8, 12, 24, 576, 35, 52])
def test_orthogonal(width: int) -> None:
    q = orthogonal(width)
    assert np.allclose(q @ q.T, np.eye(width), atol=1e-12)
    assert (
        np.abs(q).max() <= np.sqrt(2 / (width / (width & -width))) / np.sqrt(width & -width) + 1e-9
    )


def test_a_table_and_a_head_that_are_apart_are_both_rotated() -> None:
    before = float_graph(random_decoder(is_tied=False), 1, COUNT)
    after, _ = rotated(before)
    (taken,) = (op for op in after.ops if isinstance(op, Take))
    head = next(op for op in reversed(after.ops) if isinstance(op, Linear))
    assert taken.table.name == "embedding_rotated" and head.w.name == "head_rotated"
