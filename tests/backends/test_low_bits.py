"""Dense contractions with weights of few bits, and by group, equal their NumPy meaning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from qir.backends.kernels import prepare
from qir.backends.kernels.bits import PLANES
from qir.backends.kernels.contraction import Contraction
from qir.backends.kernels.plane import Plane
from tests.backends.contraction_cases import (
    Case,
    features,
    has,
    link,
    random_case,
    run_case,
    run_walled,
    target,
)

BITS = [bits for bits in PLANES if bits < 8]
BLOCKS = (0, 4, 6, 32, 64, 128)  # 6: words of X that are not aligned
FAMILIES = {"avx2": None, "avx2 wide": "avx2_wide", "vnni256": None, "vnni512": None}
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
        mult = rng.integers(1, 256, shape).astype(np.uint8)
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
        Contraction(x, y, kernel, residual=residual, low=spec.low, high=spec.high), case.const
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
