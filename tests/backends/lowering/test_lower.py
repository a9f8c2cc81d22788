"""Lowering: what is fused, where values lie, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qir.backends import find, lower
from qir.backends.c import border
from qir.backends.lowering.choose import table
from qir.backends.lowering.program import INPUT, OUTPUT, WORKSPACE, LoweredProgram
from qir.ir.data import Data
from qir.ir.errors import LowerError
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Concat,
    Constant,
    Conv,
    Linear,
    Lookup,
    MaxPool,
    Pad,
    PadMode,
    Requantize,
    Reshape,
    Slice,
    Transpose,
)
from qir.ir.types import I8, I16, I32, U8, Quant, Tensor
from tests.small_graphs import Small, residual_network, two_branches

CPU = find("x86-64")


def titles(program: LoweredProgram) -> list[str]:
    return [step.title.split(":")[0] for step in program.steps]


def argument(program: LoweredProgram, step: int, name: str) -> tuple[str, int]:
    (found,) = [a.address for a in program.steps[step].arguments if a.name == name]
    return found.space, found.offset


def test_an_anchor_takes_its_requantize_and_the_residual() -> None:
    program = lower(residual_network(), CPU)
    assert titles(program) == [
        "frame of %transpose = 128",
        "transpose %transpose",
        "frame of %requantize = 3",
        "conv %conv + requantize %requantize",
        "frame of %requantize1 = 7",
        "conv %conv1 + requantize %requantize1",
        "conv %conv2 + requantize %requantize2",
        "max_pool %max_pool",
        "linear %linear + requantize %requantize3",
    ]
    names = [a.name for a in program.steps[6].arguments]
    assert names == ["x", "weights", "constants", "residual", "y"]
    assert argument(program, 8, "y") == (OUTPUT, 0)
    assert program.macs == 16 * 16 * (27 * 16 + 2 * 144 * 16) + 1024 * 10


def test_values_with_two_readers_are_not_fused_away() -> None:
    b = Small("shared")
    acc = b.conv(b.image(1, 4, 4, 4), 8)
    graph = b.finish([b.requantize(acc), b.requantize(acc, scale=0.1)])
    assert titles(lower(graph, CPU))[2:] == [
        "conv %conv",
        "requantize %requantize",
        "requantize %requantize1",
    ]


def test_two_accumulators_are_added_by_a_kernel_of_their_own() -> None:
    b = Small("sums")
    x = b.image(1, 4, 4, 4)
    graph = b.finish([b.requantize(b.conv(x, 8), b.conv(x, 8, kernel=1, pad=0))])
    assert titles(lower(graph, CPU))[-3:] == ["conv %conv", "conv %conv1", "requantize %requantize"]


def test_a_concatenation_is_written_by_those_it_joins() -> None:
    b = Small("joined")
    x = b.image(1, 8, 8, 4, zero=0)
    parts = [b.requantize(b.conv(x, c), zero=9) for c in (8, 24)]
    y = b.requantize(b.conv(b.add(Concat(tuple(parts), 3)), 8), scale=0.2)
    program = lower(b.finish([y]), CPU)
    assert not [t for t in titles(program) if t.startswith("concat")]
    (left, right) = [
        i for i, t in enumerate(titles(program)) if t.startswith(("conv %conv +", "conv %conv1"))
    ]
    assert argument(program, right, "y")[1] - argument(program, left, "y")[1] == 8


def test_an_output_that_is_read_again_is_copied_out() -> None:
    program = lower(two_branches(), CPU)
    assert "output %requantize" in titles(program)


def test_reshapes_and_slices_move_nothing() -> None:
    b = Small("views")
    x = b.image(2, 4, 4, 8)
    cut = b.add(Slice(x, (0, 1, 0, 2), (2, 4, 4, 6), (1, 1, 1, 1)))
    flat = b.add(Reshape(b.requantize(b.conv(cut, 4, kernel=1, pad=0)), (2, 48)))
    program = lower(b.finish([b.requantize(b.linear(flat, 3))]), CPU)
    assert titles(program) == [
        "conv %conv + requantize %requantize",
        "linear %linear + requantize %requantize1",
    ]
    assert argument(program, 0, "x") == (INPUT, 4 * 8 + 2)


def test_a_reshape_between_two_frames_is_copied() -> None:
    b = Small("frames")
    x = b.requantize(b.conv(b.image(1, 6, 6, 4), 4))
    b.requantize(b.conv(x, 4))
    again = b.add(Reshape(x, (1, 4, 9, 4)))
    graph = b.finish([b.requantize(b.conv(x, 4)), b.requantize(b.conv(again, 4))])
    assert "reshape %reshape" in titles(lower(graph, CPU))


def test_a_padding_is_a_frame_around_what_is_written_inside() -> None:
    b = Small("padded")
    inside = b.requantize(b.conv(b.image(1, 4, 4, 4), 4, kernel=1, pad=0), zero=9)
    around = b.add(Pad(inside, (0, 1, 2, 0), (0, 3, 0, 0), (0,) * 4, PadMode.CONSTANT, 0.0))
    y = b.requantize(b.conv(around, 4, kernel=1, pad=0))
    assert titles(lower(b.finish([y]), CPU)) == [
        "frame of %pad = 9",
        "conv %conv + requantize %requantize",
        "conv %conv1 + requantize %requantize1",
    ]


def test_outputs_that_are_inputs_are_copied() -> None:
    b = Small("through")
    x = b.image(1, 2, 3, 4)
    program = lower(b.finish([x, b.add(Transpose(x, (0, 3, 1, 2))), x], ["a", "b", "c"]), CPU)
    assert titles(program) == ["transpose %transpose", "output %x", "output %x"]


def test_buffers_of_the_workspace_are_reused() -> None:
    b = Small("chain")
    x = b.image(1, 8, 8, 16)
    for _ in range(6):
        x = b.requantize(b.conv(x, 16))
    program = lower(b.finish([x]), CPU)
    one = 10 * 10 * 16
    assert program.workspace_bytes == program.workspace_bound <= 2 * (one + 64) + 128
    assert all(
        a.address.space != WORKSPACE or a.address.offset >= 0
        for s in program.steps
        for a in s.arguments
    )


def test_equal_kernels_are_one_and_equal_constants_are_one() -> None:
    b = Small("twins")
    x = b.image(1, 8, 8, 16, zero=0)
    w, bias = b.weights(x, (16, 3, 3, 16))
    twins = [b.requantize(b.add(Conv(x, w, bias, (1, 1), (1,) * 4, (1, 1), 1))) for _ in range(2)]
    program = lower(b.finish(twins), CPU)
    convs = [s for s in program.steps if s.title.startswith("conv")]
    assert len({s.symbol for s in convs}) == 1
    for block in ("weights", "constants"):
        assert len({a.address for s in convs for a in s.arguments if a.name == block}) == 1


def test_a_matrix_is_packed_once_whatever_it_is_multiplied_with() -> None:
    """Bias, zero points and multipliers of each use are apart from it."""
    b = Small("shared")
    x = b.image(1, 8, 8, 16, zero=0)
    w, bias = b.weights(x, (16, 3, 3, 16))
    y = b.requantize(b.add(Conv(x, w, bias, (1, 1), (1,) * 4, (1, 1), 1)), scale=0.07)
    z = b.requantize(b.add(Conv(y, w, None, (1, 1), (1,) * 4, (1, 1), 1)), scale=0.3)
    program = lower(b.finish([z]), CPU)
    convs = [s for s in program.steps if s.title.startswith("conv")]
    places = [{a.name: a.address for a in s.arguments} for s in convs]
    assert len(places) == 2
    assert places[0]["weights"] == places[1]["weights"]
    assert places[0]["constants"] != places[1]["constants"]


def test_the_text_of_a_program_names_every_step_and_buffer() -> None:
    program = lower(residual_network(), CPU)
    text = program.text
    assert text.startswith("program @small stage=lowered {")
    assert "buffer %requantize: uint8[1x18x18x16], 5184 bytes at" in text
    assert all(step.title in text for step in program.steps)


def test_every_op_without_a_kernel_is_listed_with_the_reason() -> None:
    b = Small("refused")
    x = b.image(1, 4, 4, 4)
    w = b.input("w", b.weights(x, (4, 4))[0].type)
    elem = Quant.per_tensor(I8, 0.01, 0)
    dynamic = b.input("k", Constant.of(np.zeros((4, 1, 1, 4)), elem).infer())
    conv = b.add(Conv(x, dynamic, None, (1, 1), (0,) * 4, (1, 1), 1))
    graph = b.finish([conv, b.add(Linear(x, w, None))])
    with pytest.raises(LowerError) as e:
        lower(graph, CPU)
    assert str(e.value).splitlines() == [
        "graph @refused: 2 ops have no kernel on x86-64",
        "  conv %conv: w %k is computed at run time, a constant is needed",
        "  linear %linear: w %w is computed at run time, a constant is needed",
    ]


def test_a_graph_of_another_stage_is_refused() -> None:
    graph = residual_network().at_stage("simulated")
    with pytest.raises(
        LowerError, match=r"graph @small: stage is simulated, integer is needed\nhint: run"
    ):
        lower(graph, CPU)


def test_an_unknown_target_lists_those_there_are() -> None:
    with pytest.raises(
        LowerError,
        match=r"target x86avx2: unknown, one of cpu, .*, .* is needed\nhint: did you mean x86-",
    ):
        find("x86avx2")


def test_a_lookup_reads_its_table_where_tensors_are_constants() -> None:
    b = Small("tables")
    table = Data(np.arange(256)[::-1].astype(np.uint8))
    y = b.add(Lookup(b.image(1, 300), table, Quant.per_tensor(U8, 0.1, 0)))
    program = lower(b.finish([y]), CPU)
    assert [a.name for a in program.steps[0].arguments] == ["x", "constants", "y"]
    assert I32.bits == 32 and len(program.weights) >= 256


def test_what_kernels_and_choosers_refuse_is_passed_on() -> None:
    b = Small("refusals")
    x = b.image(1, 4, 4, 4)
    acc = b.conv(x, 4)
    by_channel = Quant.per_axis(I8, np.full(4, 0.1), np.arange(4), 3)
    kept = b.requantize(acc)
    twice = b.add(replace_to(b.producer(kept), by_channel))
    empty = b.add(Slice(x, (0, 0, 0, 0), (0, 4, 4, 4), (1, 1, 1, 1)))
    graph = b.finish([kept, twice, b.requantize(twice), b.requantize(empty)])
    with pytest.raises(LowerError) as e:
        lower(graph, CPU)
    lines = str(e.value).splitlines()[1:]
    assert "has zero points from 0 to 3, one is needed" in lines[0]
    assert "%requantize1 has zero points from 0 to 3, one is needed" in lines[2]
    assert "at least 1 each is needed" in lines[1]


def replace_to(op: Op | None, to: Quant) -> Requantize:
    """The same requantize into another type."""
    assert isinstance(op, Requantize)
    return replace(op, to=to, low=-128, high=127, names=())


def test_an_op_that_no_one_chooses_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(table.CHOOSERS, MaxPool)
    with pytest.raises(LowerError, match=r"max_pool %max_pool: no kernel for max_pool"):
        lower(residual_network(), CPU)


def test_folded_biases_beyond_32_bits_are_refused() -> None:
    b = Small("wide")
    x = b.input("x", Tensor((1, 40_000), Quant.per_tensor(I16, 0.1, 32767)))
    w = b.add(Constant.of(np.full((1, 40_000), 127), Quant.per_tensor(I8, 0.1, 0)))
    with pytest.raises(LowerError, match=r"the bias with zero points folded reaches \d+, 32 bits"):
        lower(b.finish([b.add(Linear(x, w, None))]), CPU)


def test_outputs_in_blocks_are_refused_at_the_border() -> None:
    blocks = Quant(U8, Data(np.full((1, 2), 0.1)), Data(np.zeros((1, 2), np.int64)), 1, 2)
    program = replace(lower(residual_network(), CPU), outputs=(Value("y", Tensor((1, 4), blocks)),))
    with pytest.raises(
        LowerError, match=r"%y: quantized in blocks of 2, one scale or one per slice"
    ):
        border.source([program])
