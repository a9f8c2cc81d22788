"""Plain loops and depthwise kernels of weights below 8 bits equal their NumPy meaning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from qir.backends.kernels import Constants, ContractionSpec, Kernel, Plane, prepare
from qir.backends.kernels.contraction.depthwise import DepthwiseCode
from qir.backends.kernels.contraction.plain import PlainCode, stream
from tests.backends.kernels.contraction_cases import (
    Case,
    features,
    has,
    link,
    random_case,
    run_case,
    run_walled,
    target,
)

WIDTHS = (2, 3, 4, 5, 6, 8)


def narrowed(rng: Generator, case: Case, bits: int, block: int = 0) -> Case:
    """The case with weights of so many bits, often extreme, and a multiplier for each block."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    shape = case.spec.weight_shape
    weights = rng.integers(low, high + 1, shape).astype(np.int8)
    if rng.random() < 0.3:
        weights = rng.choice(np.array([low, high], np.int8), shape)
    mults = rng.integers(1, 256, (*shape[:3], -(-shape[3] // block))) if block else None
    const = replace(case.const, weights=weights, bits=bits, group_mult=mults, block=block)
    return Case(case.spec, const)


def checked(
    rng: Generator, family: str, cases: list[Case], folder: Path, dot: str | None = None
) -> list[Kernel]:
    """The kernels of the cases for a machine, built together, each compared with NumPy."""
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    kernels = [prepare(case.spec, case.const, features(family), dot) for case in cases]
    functions = {f"k{i}": emit(k.code, f"k{i}") for i, k in enumerate(kernels)}
    library = link(build_object(functions, target(family)), folder)
    faults = [
        run(rng, library, f"k{i}", case, kernels[i])
        for i, case in enumerate(cases)
        for run in (run_case, run_walled)
    ]
    assert not [f for f in faults if f]
    return kernels


@pytest.mark.parametrize("bits", WIDTHS)
def test_plain_loops_of_few_bits(bits: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([bits, 7])
    blocks = (0, 0, 0, 4, 7, 16, 64)
    cases = [narrowed(rng, random_case(rng), bits, block) for block in blocks]
    for case, kernel in zip(cases, checked(rng, "plain", cases, tmp_path), strict=True):
        code = kernel.code
        assert isinstance(code, PlainCode)
        count, mults = case.const.weights.size, case.const.group_mult
        assert len(kernel.weights) == code.weight_bytes == -(-count * bits // 8)
        assert code.records_at == -(-(0 if mults is None else mults.size) // 8) * 8


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_stream_holds_each_weight_at_its_bits(bits: int) -> None:
    low = -(1 << (bits - 1))
    weights = np.arange(low, -low, dtype=np.int8)
    held = int.from_bytes(stream(weights, bits), "little")
    fields = [held >> (bits * i) & ((1 << bits) - 1) for i in range(weights.size)]
    expected = weights.astype(int) - low if bits < 8 else weights.astype(int) & 255
    assert fields == expected.tolist()


def test_more_weights_than_indices_are_refused() -> None:
    rng = np.random.default_rng(0)
    code = prepare(*vars(random_case(rng)).values(), frozenset()).code
    assert isinstance(code, PlainCode)
    plane = replace(code.spec.x, channels=2**14, pitch_x=2**14)
    y = replace(code.spec.y, channels=2**16, pitch_x=2**16)
    spec = replace(code.spec, x=plane, y=y, kernel=(1, 1), groups=1, residual=None)
    with pytest.raises(
        ValueError, match=r"contraction: bits of the weights: 4294967296, fewer than 2\*\*31"
    ):
        replace(code, spec=spec, bits=4)


@pytest.mark.parametrize("bits", WIDTHS[:-1])
@pytest.mark.parametrize(
    ("family", "dot"),
    [("vnni512", None), ("vnni256", None), ("avx2", None), ("avx2", "avx2_wide")],
)
def test_depthwise_of_few_bits(family: str, dot: str | None, bits: int, tmp_path: Path) -> None:
    if not has(family):
        pytest.skip(f"this CPU lacks {family}")
    rng = np.random.default_rng([bits, *family.encode()])
    cases = [narrowed(rng, random_case(rng, depthwise=True), bits) for _ in range(12)]
    for kernel in checked(rng, family, cases, tmp_path, dot):
        assert isinstance(kernel.code, DepthwiseCode)
        assert kernel.code.bits == bits


@pytest.mark.parametrize(("bits", "rows"), [(8, 24), (6, 9), (5, 8), (4, 6), (3, 5), (2, 3)])
def test_a_set_of_a_3x3_kernel_takes_its_bits(bits: int, rows: int) -> None:
    """Two rows of Y need 24 vectors of taps; of fewer than 8 bits the 12 of one are packed."""
    x, y = Plane.packed("uint8", 1, 8, 8, 64), Plane.packed("uint8", 1, 6, 6, 64)
    spec = ContractionSpec(x, y, (3, 3), groups=64)
    const = Constants(np.zeros(spec.weight_shape, np.int8), np.zeros(64), bits=bits)
    code = prepare(spec, const, features("vnni512")).code
    assert isinstance(code, DepthwiseCode)
    assert code.set_bytes == rows * 64
