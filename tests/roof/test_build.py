"""What the report reads off an integer graph."""

from __future__ import annotations

import numpy as np
import pytest

from qir.backends.kernels import SLACK
from qir.ir.data import Data
from qir.ir.fixed import Dyadic, Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant, Conv, Linear, Lookup, MatMul, MaxPool, Requantize, Reshape
from qir.ir.ranges import prove_no_overflow
from qir.ir.types import I4, I8, I32, U8, Quant, Tensor
from qir.ir.verify import verify
from qir.passes.infra.manager import KEEPS_BITS, Record
from qir.report import build
from tests.small_graphs import Small, artifact, residual_network

X = Quant.per_tensor(U8, 0.5, 3)


def constant(b: Builder, shape: tuple[int, ...], elem: Quant, name: str) -> Value:
    return b.add(Constant(Data(np.ones(shape, elem.carrier)), elem), name)


def requantize(b: Builder, name: str, *xs: Value, to: Quant = X) -> Value:
    ratios = [float(x.type.quant.scale.array) / float(to.scale.array) for x in xs]
    numbers = Dyadic.with_common_shift(*ratios)
    loc = Loc(f"model.onnx node /{name}")
    mults = tuple(n.mult for n in numbers)
    op = Requantize(xs, to, mults, numbers[0].shift, 0, 255, Rounding.HALF_UP, loc=loc)
    return b.add(op, name)


def block() -> Graph:
    """conv -> conv + add -> pool -> table -> reshape -> linear."""
    b = Builder("block", "integer")
    x = b.input("x", Tensor((1, 8, 8, 4), X))
    weights = Quant.per_tensor(I8, 0.25, 0)
    acc = Quant.per_tensor(I32, 0.125, 0)

    def conv(source: Value, name: str, groups: int = 1, stride: int = 1) -> Value:
        w = constant(b, (4, 3, 3, 4 // groups), weights, f"{name}_w")
        bias = constant(b, (4,), acc, f"{name}_b")
        place = Loc("model.onnx node /conv")
        sides, steps = (1, 1, 1, 1), (stride, stride)
        return b.add(Conv(source, w, bias, steps, sides, (1, 1), groups, loc=place), f"{name}_acc")

    first = requantize(b, "first", conv(x, "c1"))
    second = requantize(b, "second", conv(first, "c2", groups=4), first)
    small = requantize(b, "small", conv(second, "c3", stride=2))
    pooled = b.add(MaxPool(small, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), "pooled")
    both = requantize(b, "both", pooled, pooled)
    looked = b.add(Lookup(both, Data(np.arange(256, dtype=np.uint8)), X), "looked")
    flat = b.add(Reshape(looked, (1, 16)), "flat")
    w = constant(b, (10, 16), weights, "fc_w")
    logits = requantize(b, "logits", b.add(Linear(flat, w, None), "fc_acc"))
    graph = b.finish([logits], ["scores"])
    verify(graph)
    return graph


def test_a_row_for_each_group() -> None:
    rows = build.rows(block())
    assert [(r.name, r.op, r.bits, r.reads) for r in rows] == [
        ("first", "conv 3x3", "u8 x i8 -> u8", ("x",)),
        ("second", "depthwise 3x3 + add", "u8 x i8 + u8 -> u8", ("first",)),
        ("small", "conv 3x3 /2", "u8 x i8 -> u8", ("second",)),
        ("pooled", "max_pool", "u8 -> u8", ("small",)),
        ("both", "add", "u8 + u8 -> u8", ("pooled",)),
        ("looked", "lookup", "u8 -> u8", ("both",)),
        ("flat", "reshape", "u8 -> u8", ("looked",)),
        ("logits", "linear", "u8 x i8 -> u8", ("flat",)),
    ]
    assert rows[0].loc == "model.onnx node /conv + model.onnx node /first"
    assert rows[0].shape == (1, 8, 8, 4) and rows[2].shape == (1, 4, 4, 4)


def test_macs_and_bytes() -> None:
    rows = {r.name: r for r in build.rows(block())}
    assert rows["first"].macs == 8 * 8 * 4 * 9 * 4
    assert rows["second"].macs == 8 * 8 * 4 * 9
    assert rows["logits"].macs == 160 and rows["pooled"].macs == 0
    assert rows["first"].weight_bytes == 4 * 9 * 4 + 4 * 4
    assert rows["looked"].weight_bytes == 256 and rows["flat"].weight_bytes == 0


def test_weights_by_groups() -> None:
    """4-bit weights, and a byte for each 16 of 18 input channels of each of 3 x 3 taps."""
    b = Small("groups")
    y = b.requantize(b.conv(b.image(1, 4, 4, 18), 5, storage=I4, block=16), scale=9.0)
    (row,) = build.rows(b.finish([y]), packed={y.name: 4000})
    assert (row.bits, row.reads) == ("u8 x i4g16 -> u8", ("x",))
    assert row.weight_bytes == 5 * 9 * 18 // 2 + 5 * 9 * 2 + 5 * 4
    assert row.packed_bytes == 4000


def test_packed_bytes_are_those_of_the_weights_file() -> None:
    built = artifact()
    packed = build.packed_by_op(built.manifest["steps"])
    rows = build.rows(residual_network(), packed=packed)
    sizes = [row.packed_bytes for row in rows if row.packed_bytes]
    held = built.target.alignment
    assert sum(-(-size // held) * held for size in sizes) + SLACK == built.manifest["weights_bytes"]


def test_macs_of_matmul() -> None:
    b = Builder("m", "integer")
    x = b.input("x", Tensor((2, 3, 5), X))
    y = b.input("y", Tensor((5, 7), X))
    b.add(MatMul(x, y), "z")
    op: Op = b.finish([b.producer(Value("z", x.type)).result]).ops[0]  # type: ignore[union-attr]
    assert build.macs(op) == 2 * 3 * 5 * 7


@pytest.mark.parametrize(("bits", "size"), [(8, 10), (4, 5), (2, 3)])
def test_bytes_of_narrow_constants(bits: int, size: int) -> None:
    from qir.ir.types import Int

    value = Value("w", Tensor((5, 2), Quant.per_tensor(Int(bits, True), 1.0, 0)))
    assert build.size_bytes(value) == size


STEPS = [
    {"kernel": "vnni12", "ops": ["c1_acc", "first"]},
    {"kernel": "copy", "ops": []},
    {"kernel": "dw0", "ops": ["c2_acc", "second"]},
    {"kernel": "copy", "ops": ["both"]},
    {"kernel": "copy", "ops": ["both"]},
]


def test_kernels_and_times_of_steps() -> None:
    kernels = build.kernels_by_op(STEPS)
    runs = [[(step, 1000 * k * (i + 1)) for i, step in enumerate(STEPS)] for k in (1, 9, 2)]
    micros = build.micros_by_op(runs)
    assert micros == {"first": 2.0, "second": 6.0, "both": 18.0}
    rows = {r.name: r for r in build.rows(block(), kernels, {"first": 31.0}, micros)}
    assert rows["first"].kernel == "vnni" and rows["flat"].kernel == build.IN_PLACE
    assert rows["first"].sqnr_db == 31.0 and rows["second"].sqnr_db is None
    assert rows["second"].micros == 6.0 and rows["flat"].micros is None


def test_ports_and_passes() -> None:
    graph = block()
    (port,) = build.ports(graph.outputs, graph.output_names)
    assert (port.name, port.value, port.shape) == ("scores", "logits", (1, 10))
    assert (port.storage, port.scale, port.zero_point) == ("u8", 0.5, 3)
    per_axis = Value("v", Tensor((2,), Quant.per_axis(I8, [1.0, 2.0], 0, 0)))
    assert build.ports([per_axis])[0].scale is None
    record = Record("fold", KEEPS_BITS, 0.5, 9, 8, 1, 0.0)
    (found,) = build.pass_rows([record])
    assert (found.name, found.claim, found.ops_after) == ("fold", "Keeps: every bit", 8)


def test_proofs_name_the_least_room() -> None:
    graph = block()
    intermediates = prove_no_overflow(graph)
    proofs = build.proofs([graph], intermediates, "checked")
    assert proofs.overflow_claims == len(intermediates)
    assert proofs.integer_only == "12 ops and 7 constants, no float among them"
    assert all(m.what != "result" for m in proofs.tightest)
    used = [m.share for m in proofs.tightest]
    assert used == sorted(used, reverse=True)
    assert len({m.op for m in proofs.tightest}) == len(used) == build.TIGHTEST


def test_sizes_are_those_of_the_manifest() -> None:
    built = artifact()
    memory = built.manifest["memory"]
    sizes = build.sizes(built.manifest, 1)
    assert (sizes.flash, sizes.ram) == (memory["flash_bytes"], memory["ram_bytes"])
    assert sizes.code + sizes.weights == sizes.flash and sizes.weights == len(built.program.weights)
    assert (sizes.inputs, sizes.outputs, sizes.total) == (768, 10, 1)
