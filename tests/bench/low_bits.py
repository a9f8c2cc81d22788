"""Weights of 4 bits against 8, kernel by kernel: `python -m tests.bench.low_bits [linear|conv]`.

linear  4096 x 4096 at batch 1, its weights from memory: copies of 128 MB take turns, so that no
        cache holds the next one; against how fast the same bytes can be read at all
conv    layers of resnet20 and mobilenetv2, all that they read in the caches

One thread; kernels of --family, by default the best that this CPU runs. The kernels compared run in
turn; least and median microseconds.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qir.backends.kernels import Constants, ContractionSpec, prepare
from tests.backends.kernels.contraction_cases import (
    FEATURES,
    block_of,
    buffer,
    features,
    has,
    link,
    target,
)
from tests.bench.contraction import TIMER, constants, conv

READER = r"""
#include <immintrin.h>
#define READ(S) \
  for (long i = 0; i < size / S; i += 64) \
    for (int s = 0; s < S; s++) { \
      const char *at = data + s * (size / S) + i; \
      if (ahead) _mm_prefetch(at + ahead, _MM_HINT_T0); \
      a = _mm256_add_epi8(a, _mm256_load_si256((const __m256i *)at)); \
      b = _mm256_add_epi8(b, _mm256_load_si256((const __m256i *)(at + 32))); \
    }
double reading(const char *data, long size, int streams, int ahead) {
  double t = now();
  __m256i a = _mm256_setzero_si256(), b = a;
  if (streams == 1) READ(1)
  else if (streams == 2) READ(2)
  else if (streams == 4) READ(4)
  else READ(8)
  volatile int used = _mm256_extract_epi32(_mm256_add_epi8(a, b), 0);
  (void)used;
  return now() - t;
}
"""

ROTATED = 128 << 20  # bytes of weights that take turns: four times the largest cache
FAMILIES = [f for f in FEATURES if f != "plain" and has(f)]

LINEAR = {
    "w8": (8, 0), "w4": (4, 0), "w4 groups of 128": (4, 128), "w4 groups of 32": (4, 32),
    "w3": (3, 0), "w2": (2, 0),
}  # fmt: skip
CONV = {"w8": (8, 0), "w6": (6, 0), "w4": (4, 0), "w4g32": (4, 32), "w3": (3, 0), "w2": (2, 0)}
LAYERS = {
    "resnet20 first 3x3 32 3-16": conv(32, 32, 3, 3, 1, 16),
    "resnet20 3x3 32 16": conv(32, 32, 16, 3, 1, 16),
    "resnet20 3x3 32 16 add": conv(32, 32, 16, 3, 1, 16, res=True),
    "resnet20 3x3 s2 16 16-32": conv(16, 16, 16, 3, 2, 32),
    "resnet20 3x3 16 32": conv(16, 16, 32, 3, 1, 32),
    "resnet20 3x3 s2 8 32-64": conv(8, 8, 32, 3, 2, 64),
    "resnet20 3x3 8 64": conv(8, 8, 64, 3, 1, 64),
    "resnet20 1x1 s2 16-32": conv(16, 16, 16, 1, 2, 32),
    "resnet20 fc 64-10": conv(1, 1, 64, 1, 1, 10, pad=False),
    "mbv2 first 3x3 s2 112 3-32": conv(112, 112, 3, 3, 2, 32),
    "mbv2 pw 112 32-16": conv(112, 112, 32, 1, 1, 16, pad=False),
    "mbv2 pw 112 16-96": conv(112, 112, 16, 1, 1, 96),
    "mbv2 pw 56 96-24": conv(56, 56, 96, 1, 1, 24, pad=False),
    "mbv2 pw 56 24-144": conv(56, 56, 24, 1, 1, 144),
    "mbv2 pw 28 192-32 add": conv(28, 28, 192, 1, 1, 32, pad=False, res=True),
    "mbv2 pw 14 64-384": conv(14, 14, 64, 1, 1, 384),
    "mbv2 pw 14 384-96": conv(14, 14, 384, 1, 1, 96, pad=False),
    "mbv2 pw 7 960-160": conv(7, 7, 960, 1, 1, 160, pad=False),
    "mbv2 pw 7 320-1280": conv(7, 7, 320, 1, 1, 1280, pad=False),
    "mbv2 fc 1280-1000": conv(1, 1, 1280, 1, 1, 1000, pad=False),
}


@dataclass(frozen=True)
class Timed:
    """Seconds of each turn."""

    turns: list[float]

    @property
    def least(self) -> float:
        return min(self.turns)

    @property
    def median(self) -> float:
        return float(np.median(self.turns))


class Runner:
    """Kernels in one library, each with its own buffers; `copies` bytes of its weights."""

    def __init__(
        self, spec: ContractionSpec, widths: Mapping[str, tuple[int, int]], family: str, copies: int
    ) -> None:
        from qir.backends.tvm.build import build_object
        from qir.backends.tvm.kernels.registry import emit

        folder = Path(tempfile.mkdtemp())
        kernels = {n: prepare(spec, weights(spec, *w), features(family)) for n, w in widths.items()}
        symbols = {name: f"k{i}" for i, name in enumerate(kernels)}
        functions = {symbols[n]: emit(k.code, symbols[n]) for n, k in kernels.items()}
        self.library = link(build_object(functions, target(family)), folder)
        self.timer = timer(folder)
        self.kernels, self.symbols, self.spec = kernels, symbols, spec
        rng = np.random.default_rng(0)
        self.x, self.y, self.r = (
            buffer(rng, "uint8", n) for n in (spec.x.span, spec.y.span, spec.y.span)
        )
        self.constants = {name: block_of(k.constants) for name, k in kernels.items()}
        self.weights = {
            name: [
                block_of(k.weights) for _ in range(-(-copies // len(k.weights)) if copies else 1)
            ]
            for name, k in kernels.items()
        }

    def least(self, name: str, turn: int, inner: int, runs: int) -> float:
        """The least seconds of `runs` measurements of `inner` calls each."""
        weights = self.weights[name]
        source = weights[turn % len(weights)]
        function = ctypes.cast(getattr(self.library, self.symbols[name]), ctypes.c_void_p)
        arrays = (self.x, source, self.constants[name], self.r, self.y)
        x, w, k, r, y = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
        r = r if self.spec.residual else None
        units = self.kernels[name].units
        return float(self.timer.least(function, x, w, k, r, y, units, inner, runs))


def timer(folder: Path) -> ctypes.CDLL:
    (folder / "t.c").write_text(TIMER + READER)
    command = ["gcc", "-O2", "-mavx2", "-shared", "-fPIC", "-o", folder / "t.so", folder / "t.c"]
    subprocess.run(list(map(str, command)), check=True)
    library = ctypes.CDLL(str(folder / "t.so"))
    library.least.restype = library.reading.restype = ctypes.c_double
    return library


def weights(spec: ContractionSpec, bits: int, block: int) -> Constants:
    """Random numbers of a layer; groups where it has more input channels than one holds."""
    block = block if block < spec.weight_shape[-1] else 0
    rng, half = np.random.default_rng(1), 1 << (bits - 1)
    values = rng.integers(-half, half, spec.weight_shape).astype(np.int8)
    if bits == 8:  # as trained: sums of two products fit in 16 bits
        values //= 2
    mult = None
    if block:
        shape = (*spec.weight_shape[:3], -(-spec.weight_shape[3] // block))
        mult = rng.integers(1, 32, shape).astype(np.uint8)
    return replace(constants(rng, spec), weights=values, bits=bits, group_mult=mult, block=block)


def linear(family: str, turns: int = 60) -> None:
    spec = conv(1, 1, 4096, 1, 1, 4096, pad=False)
    runner = Runner(spec, LINEAR, family, ROTATED)
    size = 8 << 20
    data = [block_of(bytes(size)) for _ in range(ROTATED // size)]
    ways = [(streams, ahead) for streams in (1, 2, 4, 8) for ahead in (0, 512)]
    timings_of: dict[object, list[float]] = {key: [] for key in [*ways, *LINEAR]}
    for turn in range(turns):
        for i, (streams, ahead) in enumerate(ways):
            block = data[(turn * len(ways) + i) % len(data)]
            at = ctypes.c_void_p(block.ctypes.data)
            seconds = runner.timer.reading(at, ctypes.c_long(size), streams, ahead)
            timings_of[streams, ahead].append(seconds)
        for name in LINEAR:
            timings_of[name].append(runner.least(name, turn, 1, 1))
    timed = {key: Timed(seconds) for key, seconds in timings_of.items()}
    reads = [timed[way] for way in ways]
    for way, read in zip(ways, reads, strict=True):
        print(f"  read {way[0]} streams, {way[1]:3} ahead {size / read.least * 1e-9:6.1f} GB/s,"
              f" median {size / read.median * 1e-9:6.1f}")  # fmt: skip
    fastest = min(r.least for r in reads), min(r.median for r in reads)
    base = timed["w8"]
    print(f"{'4096 x 4096':20} {'least':>8} {'median':>8}   of w8           of reading the bytes")
    for name in LINEAR:
        t, length = timed[name], len(runner.kernels[name].weights)
        share = [length / size * f / s for f, s in zip(fastest, (t.least, t.median), strict=True)]
        print(
            f"{name:20} {t.least * 1e6:8.1f} {t.median * 1e6:8.1f}   {base.least / t.least:4.2f}x"
            f" {base.median / t.median:4.2f}x   {share[0]:6.1%} {share[1]:6.1%}"
            f"   {length / t.least * 1e-9:5.1f} GB/s"
        )


def convolutions(family: str, wanted: str, turns: int = 25) -> None:
    print(f"{'least us, of w8':30}" + "".join(f"{name:>16}" for name in CONV))
    for layer, spec in LAYERS.items():
        if wanted not in layer:
            continue
        runner = Runner(spec, CONV, family, 0)
        inner = {n: max(1, int(2e-4 / runner.least(n, 0, 1, 3))) for n in CONV}
        timings_of: dict[str, list[float]] = {n: [] for n in CONV}
        for turn in range(turns):
            for name in CONV:
                timings_of[name].append(runner.least(name, turn, inner[name], 3))
        base = min(timings_of["w8"])
        cells = (f"{min(t) * 1e6:8.1f} {min(t) / base:5.2f}" for t in timings_of.values())
        print(f"{layer:30}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench.low_bits", description=__doc__)
    p.add_argument("what", nargs="?", choices=("linear", "conv", "all"), default="all")
    p.add_argument("layer", nargs="?", default="", help="a part of its name")
    p.add_argument("--family", choices=FAMILIES, default=FAMILIES[0])
    args = p.parse_args()
    if args.what != "conv":
        linear(args.family)
    if args.what != "linear":
        convolutions(args.family, args.layer)


if __name__ == "__main__":
    main()
