"""Random contractions with extreme numbers, and a way to run their kernels in process."""

from __future__ import annotations

import ctypes
import mmap
import platform
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from qir.backends.kernels import SLACK, Constants, ContractionSpec, Kernel, Plane
from qir.backends.kernels.contraction.reference import evaluate, view
from qir.backends.kernels.plane import RANGE

FEATURES = {
    "vnni512": "avx512f avx512bw avx512vl avx512dq avx512vnni avx2",
    "vnni512 ifma": "avx512f avx512bw avx512vl avx512dq avx512vnni avx512ifma avx2",
    "vnni256": "avx2 avxvnni",
    "avx2": "avx2",
    "plain": "",
}
"""LLVM features of the machine each family of kernels is built for."""

FLAGS = {
    "vnni512": {"avx512_vnni"},
    "vnni512 ifma": {"avx512_vnni", "avx512ifma"},
    "vnni256": {"avx_vnni"},
    "avx2": {"avx2"},
    "plain": set(),
}
"""What Linux calls those that decide."""


def has(family: str) -> bool:
    """Whether this CPU runs the family's kernels."""
    if platform.machine() != "x86_64":
        return False
    return FLAGS[family] <= set(Path("/proc/cpuinfo").read_text().split())


def features(family: str) -> frozenset[str]:
    return frozenset(FEATURES[family].split())


def target(family: str) -> dict[str, object]:
    level = (
        "x86-64-v4"
        if family.startswith("vnni512")
        else "x86-64-v3"
        if FEATURES[family]
        else "x86-64"
    )
    extra = [f"+{f}" for f in FEATURES[family].split() if "vnni" in f or "ifma" in f]
    return {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": level, "mattr": extra}


@dataclass(frozen=True, eq=False)
class Case:
    spec: ContractionSpec
    const: Constants


def spread_plane(
    rng: Generator, dtype: str, batch: int, height: int, width: int, channels: int
) -> Plane:
    """Often packed, else with gaps of every kind."""
    plane = Plane.packed(dtype, batch, height, width, channels)
    if rng.random() < 0.5:
        return plane
    pitch_x = channels + int(rng.integers(0, 2)) * int(rng.integers(0, 20))
    pitch_y = width * pitch_x + int(rng.integers(0, 40))
    return replace(
        plane, pitch_x=pitch_x, pitch_y=pitch_y, pitch_n=height * pitch_y + int(rng.integers(0, 9))
    )


def random_case(rng: Generator, depthwise: bool | None = None) -> Case:
    """Any legal contraction: everything is as wild as the contract allows."""
    groups, share_in, share_out = _channels(rng, depthwise)
    kernel = tuple(int(v) for v in rng.choice([1, 1, 2, 3, 3, 5], 2))
    strides, dilations = (tuple(int(v) for v in rng.choice([1, 1, 1, 2, 3], 2)) for _ in range(2))
    batch, height, width = (
        int(rng.choice([1, 1, 2])),
        int(rng.integers(1, 6)),
        int(rng.integers(1, 20)),
    )
    need = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip((height, width), strides, kernel, dilations, strict=True)
    ]
    spare = rng.integers(0, 2, 2) if rng.random() < 0.3 else (0, 0)
    x = spread_plane(
        rng,
        str(rng.choice(["uint8", "uint8", "int8"])),
        batch,
        need[0] + int(spare[0]),
        need[1] + int(spare[1]),
        groups * share_in,
    )
    y_type = str(rng.choice(["uint8", "uint8", "uint8", "int8", "int8", "int16", "int32"]))
    size = (batch, height, width, groups * share_out)
    y = spread_plane(rng, y_type, *size)
    residual = None
    if y_type != "int32" and rng.random() < 0.35:
        residual = spread_plane(rng, str(rng.choice(["uint8", "int8", "int16"])), *size)
    low, high = RANGE[y_type]
    clamp = (
        sorted(int(v) for v in rng.integers(low, high, 2)) if rng.random() < 0.3 else (None, None)
    )
    spec = ContractionSpec(x, y, kernel, strides, dilations, groups, residual, *clamp)  # type: ignore[arg-type]
    spec = replace(spec, any_rows=bool(rng.random() < 0.4))
    return Case(spec, _constants(rng, spec))


def _channels(rng: Generator, depthwise: bool | None) -> tuple[int, int, int]:
    """Groups, and the channels in and out of each."""
    groups = int(rng.choice([1, 1, 1, 1, 2, 3]))
    share_in = int(rng.choice([1, 2, 3, 4, 8, 13, 16, 40, 67, 300]))
    share_out = int(rng.choice([1, 3, 8, 10, 16, 24, 33, 64, 70, 96, 150]))
    if depthwise or (depthwise is None and rng.random() < 0.3):
        return int(rng.choice([2, 3, 8, 16, 20, 24, 32, 40, 64, 70, 96, 130])), 1, 1
    return groups, share_in, share_out


def _constants(rng: Generator, spec: ContractionSpec) -> Constants:
    o = spec.y.channels
    weights = rng.integers(-128, 128, spec.weight_shape).astype(np.int8)
    if rng.random() < 0.2:
        weights = rng.choice(np.array([-128, 127], np.int8), spec.weight_shape)
    if rng.random() < 0.3:
        weights = (weights // 4).astype(np.int8)
    low, high = RANGE[spec.y.dtype]
    size = int(rng.choice([0, 1000, 2**20, 2**30]))
    shift = rng.integers(30, 50, o)
    kind = rng.random()
    if kind < 0.15:
        shift = rng.integers(1, 63, o)
    elif kind < 0.3:
        shift = rng.choice([1, 31, 32, 33, 62], o)
    elif kind < 0.4:
        shift = rng.integers(20, 32, o)
    mult = (
        rng.integers(2**30, 2**31, o)
        if rng.random() < 0.7
        else rng.choice([0, 1, 2**31 - 1, 12345], o)
    )
    return Constants(
        weights,
        rng.integers(-size, size + 1, o),
        mult,
        shift,
        0 if spec.is_raw else int(rng.integers(low, high + 1)),
        rng.integers(0, 2**31, o) if spec.residual else 0,
        int(rng.integers(*RANGE[spec.residual.dtype])) if spec.residual else 0,
    )


def buffer(rng: Generator, dtype: str, count: int, offset: int = 0) -> np.ndarray:
    """Random elements with slack after them, `offset` elements past a multiple of 64 bytes."""
    item = np.dtype(dtype).itemsize
    raw = rng.integers(0, 256, (count + offset) * item + SLACK + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64 + offset * item
    whole = (count + offset) * item + SLACK - offset * item
    return raw[start : start + whole // item * item].view(dtype)


def walled(rng: Generator, dtype: str, count: int, slack: int) -> np.ndarray:
    """Random elements; `slack` bytes after the last one, memory ends: a touch is a crash."""
    item, page = np.dtype(dtype).itemsize, mmap.PAGESIZE
    size = -(-(count * item + slack) // page) * page
    memory = mmap.mmap(-1, size + page)
    raw = np.frombuffer(memory, np.uint8)
    fault = ctypes.CDLL(None).mprotect(ctypes.c_void_p(raw.ctypes.data + size), page, 0)
    assert fault == 0
    start = size - slack - count * item
    raw[start:size] = rng.integers(0, 256, size - start, dtype=np.uint8)
    return raw[start : start + count * item].view(dtype)


def link(objects: bytes, folder: Path) -> ctypes.CDLL:
    (folder / "k.o").write_bytes(objects)
    command = ["gcc", "-shared", "-nostdlib", "-o", str(folder / "k.so"), str(folder / "k.o")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "k.so"))


def run_walled(
    rng: Generator, library: ctypes.CDLL, symbol: str, case: Case, kernel: Kernel
) -> str:
    """Like `run_case`, with memory that ends where the contract lets it end."""
    spec, residual = case.spec, None
    x = walled(rng, spec.x.dtype, spec.x.span, SLACK)
    y = walled(rng, spec.y.dtype, spec.y.span, 0)
    if spec.residual:
        residual = walled(rng, spec.residual.dtype, spec.residual.span, SLACK)
    return _run(library, symbol, case, kernel, x, residual, y, 0)


def run_case(rng: Generator, library: ctypes.CDLL, symbol: str, case: Case, kernel: Kernel) -> str:
    """Empty when every element is right and nothing else was written."""
    spec = case.spec
    x = buffer(rng, spec.x.dtype, spec.x.span, int(rng.integers(0, 3)))
    if rng.random() < 0.3:
        x[:] = rng.choice(RANGE[spec.x.dtype], x.size)
    y = buffer(rng, spec.y.dtype, spec.y.span, int(rng.integers(0, 3)))
    residual = buffer(rng, spec.residual.dtype, spec.residual.span) if spec.residual else None
    cut = int(rng.integers(0, kernel.units + 1))
    return _run(library, symbol, case, kernel, x, residual, y, cut)


def block_of(content: bytes) -> np.ndarray:
    """Weights or constants in memory of their own, with random bytes after them."""
    block = buffer(np.random.default_rng(0), "uint8", len(content))
    block[: len(content)] = np.frombuffer(content, np.uint8)
    return block


def _run(
    library: ctypes.CDLL,
    symbol: str,
    case: Case,
    kernel: Kernel,
    x: np.ndarray,
    residual: np.ndarray | None,
    y: np.ndarray,
    cut: int,
) -> str:
    """All units from `cut` on, then those before it."""
    spec = case.spec
    blocks = [block_of(kernel.weights), block_of(kernel.constants)]
    expected = y.copy()
    r = view(residual, spec.residual) if residual is not None and spec.residual else None
    view(expected, spec.y)[:] = evaluate(spec, case.const, view(x, spec.x), r)
    arrays = [x, *blocks, *([residual] if residual is not None else []), y]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
    for begin, end in ((cut, kernel.units), (0, cut)):
        getattr(library, symbol)(*pointers, begin, end)
    if np.array_equal(y, expected):
        return ""
    return (
        f"{symbol}: {int((y != expected).sum())} of {expected.size} elements differ: {kernel.code}"
    )
