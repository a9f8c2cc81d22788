"""Contraction kernels equal their NumPy meaning on every instruction set this machine has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from qir.backends.kernels import Constants, ContractionSpec, Plane, prepare
from qir.backends.kernels.contraction.depthwise import DepthwiseCode
from tests.backends.kernels.contraction_cases import (
    FLAGS,
    Case,
    features,
    has,
    link,
    random_case,
    run_case,
    run_walled,
    target,
)

CASES = 12  # of each family and seed: about two seconds of compiling


@pytest.mark.parametrize("family", FLAGS)
@pytest.mark.parametrize("seed", range(2))
def test_random_contractions(family: str, seed: int, tmp_path: Path) -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    if not has(family):
        pytest.skip(f"this CPU lacks {family}")
    rng = np.random.default_rng([seed, *family.encode()])
    cases = {f"k{i}": random_case(rng) for i in range(CASES)}
    kernels = {name: prepare(c.spec, c.const, features(family)) for name, c in cases.items()}
    objects = build_object(
        {name: emit(k.code, name) for name, k in kernels.items()}, target(family)
    )
    library = link(objects, tmp_path)
    faults = [
        run(rng, library, name, case, kernels[name])
        for name, case in cases.items()
        for run in (run_case, run_walled)
    ]
    assert not [f for f in faults if f]
    undefined = subprocess.run(
        ["nm", "-u", str(tmp_path / "k.o")], capture_output=True, text=True, check=True
    )
    assert set(undefined.stdout.split()) <= {"U", "memset", "memcpy"}


@pytest.mark.parametrize(("channels", "is_first"), [(1344, True), (1376, False)])
def test_depthwise_weights_are_widened_first_where_a_stack_holds_them(
    channels: int, is_first: bool, tmp_path: Path
) -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    if not has("avx2"):
        pytest.skip("this CPU lacks avx2")
    rng = np.random.default_rng(channels)
    x, y = (Plane.packed("uint8", 1, n, n, channels) for n in (5, 3))
    spec = ContractionSpec(x, y, (3, 3), groups=channels)
    weights = rng.integers(-128, 128, spec.weight_shape).astype(np.int8)
    case = Case(spec, Constants(weights, np.zeros(channels), 2**30, np.full(channels, 40)))
    kernel = prepare(spec, case.const, features("avx2"))
    assert isinstance(kernel.code, DepthwiseCode)
    assert kernel.code.widens_first == is_first
    library = link(build_object({"k": emit(kernel.code, "k")}, target("avx2")), tmp_path)
    assert run_case(rng, library, "k", case, kernel) == ""
