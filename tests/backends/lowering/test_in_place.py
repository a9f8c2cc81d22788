"""Sums over their residual: where microcontrollers write them, where not, and the same bits."""

from __future__ import annotations

import importlib

import pytest

from qir.backends import find, lower
from qir.backends.lowering.program import Address, LoweredProgram
from qir.ir.graph import Graph
from tests.emulated.harness import assert_same_bits
from tests.small_graphs import Small, stored_inputs

M4 = find("cortex-m4")


def blocks(height: int = 8, last_zero: int = 3, reads_first_again: bool = False) -> Graph:
    """Two residual blocks, and a padded convolution that needs a wider frame than they do."""
    b = Small("blocks")
    first = b.requantize(b.conv(b.image(1, height, 8, 16), 16))
    x = first
    for zero in (3, last_zero):
        inner = b.requantize(b.conv(x, 16))
        x = b.requantize(b.conv(inner, 16), x, scale=0.07, zero=zero)
    y = b.requantize(b.conv(x, 8, kernel=5, pad=2), scale=0.2)
    again = [b.requantize(b.conv(first, 4), scale=0.1)] if reads_first_again else []
    return b.finish([y, *again])


def in_place(program: LoweredProgram) -> list[bool]:
    """Of each sum: is it written over its residual?"""
    results = []
    for step in program.steps:
        at: dict[str, Address] = {a.name: a.address for a in step.arguments}
        if "residual" in at:
            results.append(at["residual"] == at["y"])
    return results


def test_sums_lie_where_their_residuals_do() -> None:
    program = lower(blocks(), M4)
    assert in_place(program) == [True, True]
    frames = [b.about for b in program.buffers]
    assert frames.count("uint8[1x12x12x16]") == 1  # the widest of all its readers


def test_a_machine_with_an_operating_system_keeps_them_apart() -> None:
    assert in_place(lower(blocks(), find("x86-64"))) == [False, False]


def test_a_residual_that_is_read_again_stays() -> None:
    assert in_place(lower(blocks(reads_first_again=True), M4)) == [False, True]


def test_frames_of_another_zero_point_stay_apart() -> None:
    assert in_place(lower(blocks(last_zero=9), M4)) == [True, False]


def test_a_kernel_that_computes_elements_twice_writes_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("qir.backends.lowering.lower")
    monkeypatch.setattr(module, "writes_once", lambda code: False)
    assert in_place(lower(blocks(), M4)) == [False, False]


@pytest.mark.parametrize("height", [8, 7])
def test_in_place_gives_the_same_bits(height: int) -> None:
    graph = blocks(height)
    assert_same_bits(graph, "cortex-m4", [stored_inputs(graph, seed) for seed in range(3)])
