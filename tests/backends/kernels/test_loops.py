"""Kernels other than contractions equal their meaning in NumPy, bit for bit, on every machine."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.backends.kernels.contraction_cases import features, link, target
from tests.backends.kernels.held import run_case
from tests.backends.kernels.loop_cases import CASES

FLAGS = {"vnni512": {"avx512_vnni", "avx512bw"}, "avx2": {"avx2"}, "plain": set[str]()}
ROUNDS = 4


def has(family: str) -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and FLAGS[family] <= set(info.read_text().split())


@pytest.mark.parametrize("family", FLAGS)
def test_random_kernels(family: str, tmp_path: Path) -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    if not has(family):
        pytest.skip(f"this CPU lacks {family}")
    rng = np.random.default_rng([2026, zlib.crc32(family.encode())])
    cases = {
        f"{name}{i}": make(rng, features(family))
        for name, make in CASES.items()
        for i in range(ROUNDS)
    }
    functions = {symbol: emit(case.kernel.code, symbol) for symbol, case in cases.items()}
    library = link(build_object(functions, target(family)), tmp_path)
    faults = [run_case(rng, library, symbol, case) for symbol, case in cases.items()]
    assert not [f for f in faults if f]
