"""Kernels other than contractions equal their meaning in NumPy, bit for bit, on every machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.backends.kernels.contraction_cases import features, link, target
from tests.backends.kernels.held import run_case, run_walled
from tests.backends.kernels.loop_cases import CASES
from tests.backends.kernels.sum_cases import softmax_case
from tests.tree import ROOT

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
    faults += [run_walled(library, symbol, case) for symbol, case in cases.items()]
    assert not [f for f in faults if f]


@pytest.mark.parametrize("family", FLAGS)
def test_long_rows_of_softmax(family: str, tmp_path: Path) -> None:
    """Past 256 elements exponentials are computed anew, not kept."""
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    if not has(family):
        pytest.skip(f"this CPU lacks {family}")
    rng = np.random.default_rng([2027, zlib.crc32(family.encode())])
    rows = (255, 256, 257, 600, 1000)
    cases = {f"row{row}": softmax_case(rng, features(family), row) for row in rows}
    functions = {symbol: emit(case.kernel.code, symbol) for symbol, case in cases.items()}
    library = link(build_object(functions, target(family)), tmp_path)
    faults = [run_case(rng, library, symbol, case) for symbol, case in cases.items()]
    faults += [run_walled(library, symbol, case) for symbol, case in cases.items()]
    assert not [f for f in faults if f]


@pytest.mark.parametrize(("at", "at_end"), [(64, True), (-1, False)])
def test_the_walls_are_there(at: int, at_end: bool) -> None:
    code = (
        "from tests.backends.kernels.held import between_walls\n"
        "import ctypes\n"
        f"ctypes.string_at(between_walls(64, 0, {at_end}).ctypes.data + {at}, 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -signal.SIGSEGV
