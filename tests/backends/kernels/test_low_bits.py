"""Dense contractions with weights of few bits, and by group, equal their NumPy meaning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from qir.backends.kernels import Constants, ContractionSpec, prepare
from qir.backends.kernels.contraction.bits import PLANES, fields, pack, packed_rows
from qir.backends.kernels.contraction.dense import DenseCode, Runs
from qir.backends.kernels.contraction.panels import longest_chain
from qir.backends.kernels.plane import Plane
from qir.backends.targets import find
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

FULL = ContractionSpec(Plane.packed("uint8", 1, 1, 8, 36), Plane.packed("uint8", 1, 1, 8, 16))
BITS = [bits for bits in PLANES if bits < 8]
BLOCKS = (0, 4, 6, 32, 64, 128)  # 6: words of X that are not aligned
FAMILIES = {"avx2": None, "avx2 nibbles": "avx2_nibbles", "vnni256": None, "vnni512": None}
CASES = 12


def low(rng: Generator, case: Case, bits: int, block: int) -> Case:
    """The same contraction with random weights, now and then extreme ones, of these bits."""
    spec, half = case.spec, 1 << (bits - 1)
    weights = rng.integers(-half, half, spec.weight_shape).astype(np.int8)
    if rng.random() < 0.3:
        weights = rng.choice(np.array([-half, half - 1], np.int8), spec.weight_shape)
    mult = None
    if block:
        shape = (*spec.weight_shape[:3], -(-spec.weight_shape[3] // block))
        reach = half * 255 * int(np.prod(spec.weight_shape[1:]))  # of a sum before multipliers
        mult = rng.integers(1, min(256, max(2, (1 << 31) // reach)), shape).astype(np.uint8)
    return Case(spec, replace(case.const, weights=weights, bits=bits, group_mult=mult, block=block))


def long_runs(rng: Generator, case: Case) -> Case:
    """Often a layer of more input channels than `random_case` has: several groups and loops."""
    if rng.random() < 0.4:
        return case
    spec, inner = case.spec, int(rng.choice([64, 100, 136, 260]))
    kernel = (1, int(rng.choice([1, 2])))
    height, width = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    x = Plane.packed(spec.x.dtype, 1, height, width + kernel[1] - 1, inner)
    y = Plane.packed(spec.y.dtype, 1, height, width, spec.y.channels)
    residual = replace(y, dtype=spec.residual.dtype) if spec.residual else None
    return Case(
        ContractionSpec(x, y, kernel, residual=residual, low=spec.low, high=spec.high), case.const
    )


def random_low(rng: Generator, bits: int) -> Case:
    case = long_runs(rng, random_case(rng, depthwise=False))
    while case.spec.is_depthwise:
        case = random_case(rng, depthwise=False)
    return low(rng, case, bits, int(rng.choice(BLOCKS)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [8, *BITS])
def test_random_low_bits(family: str, bits: int, tmp_path: Path) -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    base = family.partition(" ")[0]
    if not has(base):
        pytest.skip(f"this CPU lacks {base}")
    rng = np.random.default_rng([bits, *family.encode()])
    cases = {f"k{i}": random_low(rng, bits) for i in range(CASES)}
    kernels = {
        name: prepare(c.spec, c.const, features(base), FAMILIES[family])
        for name, c in cases.items()
    }
    objects = build_object({name: emit(k.code, name) for name, k in kernels.items()}, target(base))
    library = link(objects, tmp_path)
    faults = [
        run(rng, library, name, case, kernels[name])
        for name, case in cases.items()
        for run in (run_case, run_walled)
    ]
    assert not [f for f in faults if f]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bits": 4}, r"weights span \[-9, 9\] in 4 bits; signed integers of \[2, 3, 4, 5, 6, 8\]"),
        ({"bits": 7}, r"weights span \[-9, 9\] in 7 bits"),
        ({"block": 8}, r"multipliers by group are None, \(16, 1, 1, 5\) is needed"),
        ({"group_mult": np.ones((16, 1, 1, 5), np.uint8)}, "are .16, 1, 1, 5., None is needed"),
    ],
)
def test_constants_are_checked(change: dict[str, Any], text: str) -> None:
    weights = np.full((16, 1, 1, 36), -9, np.int8)
    weights[0] = 9
    const = Constants(weights, np.zeros(16), 2**30, 38)
    with pytest.raises(ValueError, match=text):
        prepare(FULL, replace(const, **change), features("avx2"))


@pytest.mark.parametrize("bits", PLANES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 9, 20])
def test_planes_hold_every_weight_once_and_no_more(bits: int, steps: int) -> None:
    rng, half = np.random.default_rng(0), 1 << (bits - 1)
    values = rng.integers(-half, half, (2, steps, 5)).astype(np.int8)
    packed = pack(values, bits).astype(np.int64)
    fields_of_steps = [fields(bits, step, steps) for step in range(steps)]
    bits_used = [
        (f.row, bit)
        for fs in fields_of_steps
        for f in fs
        for bit in range(f.shift, f.shift + f.width)
    ]
    assert len(set(bits_used)) == len(bits_used) == steps * bits
    assert packed.shape == (2, packed_rows(bits, steps), 5)
    spare = 8 * packed_rows(bits, steps) - steps * bits
    assert 0 <= spare < 8 * len(PLANES[bits])
    for step, fs in enumerate(fields_of_steps):
        u = sum((packed[:, f.row] >> f.shift & ((1 << f.width) - 1)) << f.at for f in fs)
        w = u - half if bits < 8 else u.astype(np.int8)
        np.testing.assert_array_equal(w, values[:, step])


@pytest.mark.parametrize(("bits", "chain"), [(6, 2), (5, 4), (4, 8), (3, 16), (2, 16)])
def test_the_most_extreme_weights_still_chain(bits: int, chain: int) -> None:
    """255 * 2**(bits-1) * 2 for each step: 32640 of 32767 for the chains that are told here."""
    low = np.full((16, 1, 1, 400), -(1 << (bits - 1)), np.int8)
    assert longest_chain(Runs(1, 1, 400, 0, 0), 4, low, (0, 255)) == chain
    assert longest_chain(Runs(1, 1, 400, 0, 0), 4, low, (0, 15)) == 16


def test_sums_of_two_products_that_do_not_fit_are_not_chained() -> None:
    wide = np.full((16, 1, 1, 8), 127, np.int8)
    assert longest_chain(Runs(1, 1, 8, 0, 0), 4, wide, (0, 255)) == 0
    assert longest_chain(Runs(1, 1, 8, 0, 0), 4, wide, (0, 128)) == 1


@pytest.mark.parametrize(("bits", "block"), [(6, 0), (4, 0), (3, 0), (4, 32)])
def test_a_layer_takes_the_bytes_its_bits_say(bits: int, block: int) -> None:
    spec = ContractionSpec(Plane.packed("uint8", 1, 1, 1, 256), Plane.packed("uint8", 1, 1, 1, 64))
    rng = np.random.default_rng(0)
    shift = np.full(64, 40)
    case = low(rng, Case(spec, Constants(np.zeros(1), np.zeros(64), 2**30, shift)), bits, block)
    code = prepare(spec, case.const, features("avx2")).code
    assert isinstance(code, DenseCode)
    assert code.weight_bytes == 64 * 256 * bits // 8
    assert code.mult_bytes * code.vectors == (64 * 256 // block if block else 0)


MACHINES = {
    **{family: features(family) for family in ("vnni512", "avx2", "plain")},
    "dotprod": find("aarch64-dotprod").traits,
    "i8mm": find("aarch64-i8mm").traits,
    "m4": find("cortex-m4").traits,
    "riscv64": find("riscv64").traits,
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("bits", "block"), [(8, 0), (4, 0), (4, 32)])
@pytest.mark.parametrize("outputs", [192, 300])
def test_one_packing_serves_any_number_of_rows(
    machine: str, bits: int, block: int, outputs: int
) -> None:
    names = set()
    for rows in (1, 2, 7, 128):
        x, y = (Plane.packed(d, 1, 1, rows, c) for d, c in (("int8", 96), ("int32", outputs)))
        spec = ContractionSpec(x, y, any_rows=True, alignment=64)
        rng = np.random.default_rng(0)
        case = low(rng, Case(spec, Constants(np.zeros(1), np.zeros(outputs))), bits, block)
        kernel = prepare(spec, case.const, MACHINES[machine])
        names.add((kernel.weights, kernel.constants))
    assert len(names) == 1
