"""The weights file of an artifact takes the bits of each layer: compared with formulas, exactly.

A block of constants is, with P = bits * weights / 8 bytes rounded up where the layout says:

    plain       P | a byte for each group | to a multiple of 8 | fields of each channel
    dense       for each vector of channels, tap and part: its steps of four weights in bit planes
                | a byte for each lane and part | to a whole vector | records
    depthwise   for each set of channels: four vectors for each four taps, in bit planes | records
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import ceil, prod
from types import ModuleType

import numpy as np
import pytest

from qir.backends import build, find
from qir.backends.kernels import SLACK
from qir.backends.kernels.contraction.dense import DenseCode
from qir.backends.kernels.contraction.depthwise import DepthwiseCode
from qir.backends.kernels.contraction.plain import PlainCode
from qir.backends.lowering.lower import lower
from qir.backends.lowering.program import WEIGHTS, LoweredProgram, Step
from qir.frontends.onnx import import_onnx
from qir.ir.graph import Graph
from qir.ir.op import Op
from qir.ir.ops import Conv, Linear, Reshape, ScaleGroups
from qir.ir.types import I2, I3, I4, I8, Int
from qir.passes import pipelines
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import Ranges, calibrate
from qir.passes.infra.manager import Manager
from qir.passes.transform.channel_ranges import first_samples
from tests.small_graphs import LOW, Small

PLAIN_FIELDS = {"add": 8, "mult": 4, "residual": 4, "bias": 4, "shift": 1}
PLANES = {8: (8,), 6: (4, 2), 5: (4, 1), 4: (4,), 3: (2, 1), 2: (2,)}
TARGETS = ("c", "x86-avx2", "x86-avx512vnni", "aarch64-dotprod", "aarch64-i8mm", "hexagon-v68")
MIXED = ("w2a8", "w4g16a8", "w3a8", "w6a8", "w5a8")


def packed(bits: int, steps: int) -> int:
    """Bytes for each byte of a step: planes of eight steps at once, and each plane rounded up."""
    unit = 8 // min(PLANES[bits])
    counts = [min(unit, steps - first) for first in range(0, steps, unit)]
    return sum(ceil(n * width / 8) for n in counts for width in PLANES[bits])


def up(size: int, unit: int) -> int:
    return ceil(size / unit) * unit


def block_bytes(code: object, op: Conv | Linear, bits: int, block: int) -> tuple[int, int]:
    """Of the weights and the constants of one layer: `bits` wide, by groups of `block`."""
    out, inner = op.w.type.shape[0], op.w.type.shape[-1]
    parts = ceil(inner / block) if block else 0
    taps = prod(op.w.type.shape[1:-1])
    match code:
        case PlainCode():
            weights = ceil(out * taps * inner * bits / 8)
            each = sum(PLAIN_FIELDS[name] for name in code.fields)
            return weights, up(out * taps * parts, 8) + out * each
        case DepthwiseCode():
            rows = code.rows if bits == 8 else 1
            steps = len(code.groups) * rows * 4
            weights = packed(bits, steps) * code.machine.vector_bytes
            return len(code.starts) * weights, len(code.starts) * 4 * code.record_bytes
        case DenseCode():
            return _dense_bytes(code, op, bits, block)
    raise AssertionError(code)


def _dense_bytes(code: DenseCode, op: Conv | Linear, bits: int, block: int) -> tuple[int, int]:
    kernel = op.kernel if isinstance(op, Conv) else (1, 1)
    groups = op.groups if isinstance(op, Conv) else 1
    out, inner = op.w.type.shape[0], op.w.type.shape[-1]
    wide = code.tile.vectors * code.machine.lanes
    channels = groups * up(out // groups, wide)
    runs, lengths = kernel[0], [kernel[1] * inner]
    if block or groups > 1:
        runs, lengths = prod(kernel), [inner]
    if block:
        lengths = [min(block, inner - first) for first in range(0, inner, block)]
    depth = code.machine.depth
    rows = runs * sum(packed(bits, ceil(n / depth)) for n in lengths)
    mults = channels * runs * len(lengths) if block else 0
    records = channels // code.machine.lanes * code.record_bytes
    return channels * depth * rows, up(mults, max(code.machine.vector_bytes, 8)) + records


def layers(graph: Graph, program: LoweredProgram) -> Iterator[tuple[Step, Conv | Linear, int, int]]:
    """Each step that is a contraction, the op, and the bits and groups of its weights."""
    ops: Mapping[str, Op] = {op.names[0]: op for op in graph.ops}
    for step in program.steps:
        op = ops[step.ops[0]] if step.ops else None
        if isinstance(op, Conv | Linear):
            made = graph.producers[op.w.name]
            stored, block = (made.w, made.block) if isinstance(made, ScaleGroups) else (op.w, 0)
            yield step, op, stored.type.quant.storage.bits, block


def file_bytes(graph: Graph, program: LoweredProgram, alignment: int) -> int:
    """Of the weights file: all blocks of contractions, each at a multiple of the alignment."""
    total = 0
    for step, op, bits, block in layers(graph, program):
        sizes = block_bytes(program.codes[step.symbol], op, bits, block)
        blocks = [a for a in step.arguments if a.address.space == WEIGHTS]
        assert [a.name for a in blocks] == ["weights", "constants"]
        for held, size in zip(blocks, sizes, strict=True):
            assert held.about == f"{size} bytes", (step.title, size)
            total += up(size, alignment)
    return total + SLACK


def net(storage: Int, block: int = 0) -> Graph:
    """A convolution, a depthwise and a pointwise one, a linear layer: nothing else is constant."""
    b = Small("sizes")
    first = b.requantize(b.conv(b.image(1, 4, 4, 5), 48, storage=storage, block=block), scale=1.0)
    second = b.requantize(b.conv(first, 48, groups=48, storage=storage), scale=3.0)
    third = b.requantize(b.conv(second, 70, 1, 0, storage=storage, block=block), scale=9.0)
    flat = b.add(Reshape(third, (1, 4 * 4 * 70)))
    return b.finish([b.linear(flat, 10, storage, block)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("storage", [I8, *reversed(LOW)], ids=str)
@pytest.mark.parametrize("block", [0, 32])
def test_the_weights_file_has_the_size_of_its_bits(target: str, storage: Int, block: int) -> None:
    machine = find(target)
    graph = net(storage, block)
    program = lower(graph, machine)
    assert len(program.weights) == file_bytes(graph, program, machine.alignment)


@pytest.mark.parametrize(("storage", "least"), [(I4, 0.50), (I3, 0.375), (I2, 0.25)])
def test_plain_files_shrink_as_the_bits_do(storage: Int, least: float) -> None:
    """Only epilogues stay: they are 13 bytes for each of 166 channels, and 4 for 10 raw ones."""
    blocks = [
        {a.address.offset: a for step in lower(net(s), find("c")).steps for a in step.arguments
         if a.address.space == WEIGHTS}.values()
        for s in (storage, I8)
    ]  # fmt: skip
    for each in blocks:
        rest = sum(int(a.about.split()[0]) for a in each if a.name == "constants")
        assert rest == 13 * (48 + 48 + 70) + 4 * 10
    sizes = [sum(int(a.about.split()[0]) for a in each if a.name == "weights") for each in blocks]
    assert least <= sizes[0] / sizes[1] < least + 0.01


def test_the_file_of_an_artifact_is_the_program_s() -> None:
    built = build(net(I4, 32), "c")
    assert len(built.files["weights.bin"]) == built.manifest["weights_bytes"]
    assert built.files["weights.bin"] == built.program.weights


# -- resnet8


@cache
def _calibrated(zoo: ModuleType) -> tuple[Graph, Ranges, tuple[np.ndarray, ...]]:
    case, manager = zoo.ZOO["resnet8"], Manager()
    graph = manager.run(import_onnx(case.model), pipelines.CANONICALIZE)
    sample, batches = first_samples(graph, [case.calibration()[:8]])
    graph = manager.run(graph, pipelines.transform(graph, sample))
    return graph, calibrate(graph, batches), sample


@cache
def resnet8(zoo: ModuleType, bits: str) -> Graph:
    """Its integers; "mixed": layers of every width below 8 bits, one after the other."""
    graph, ranges, sample = _calibrated(zoo)
    mixed: dict[str, Bits] = {}
    if bits == "mixed":
        names = [op.names[0] for op in graph.ops if isinstance(op, Conv | Linear)]
        mixed = dict(zip(names, map(Bits.parse, MIXED * len(names)), strict=False))
    default = pipelines.EIGHT if mixed else Bits.parse(bits)
    pairs = pipelines.quantize(ranges, default, mixed, graph, sample)
    manager = Manager()
    return manager.run(manager.run(graph, pairs), pipelines.TO_INTEGER)


@pytest.mark.parametrize("target", ["c", "x86-avx512vnni"])
@pytest.mark.parametrize("bits", ["w4a8", "w4g32a8", "mixed"])
def test_resnet8_has_the_size_of_its_bits(zoo: ModuleType, bits: str, target: str) -> None:
    """What is no layer's (its average pool's numbers) is as large at every width."""
    machine = find(target)
    rest = []
    for graph in (resnet8(zoo, bits), resnet8(zoo, "w8a8")):
        program = lower(graph, machine)
        rest.append(len(program.weights) - file_bytes(graph, program, machine.alignment))
    assert rest[0] == rest[1] < 1024
    widths = {w for _, _, w, _ in layers(resnet8(zoo, bits), program)}
    assert widths == ({2, 3, 4, 5, 6} if bits == "mixed" else {Bits.parse(bits).weight})
