"""Speed of the contraction kernels: `python -m tests.bench.contraction [family] [name]`.

Layers of small networks. Prints microseconds (the least of many short runs on one core) and the
share of the peak of vpdpbusd.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from qir.backends.kernels import Constants, ContractionSpec, Kernel, Plane, prepare
from tests.backends.kernels.contraction_cases import Case, block_of, buffer, features, link, target

TIMER = r"""
#include <stdint.h>
#include <time.h>
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
typedef void (*plain)(void *, void *, void *, void *, int32_t, int32_t);
typedef void (*added)(void *, void *, void *, void *, void *, int32_t, int32_t);
double least(void *f, void *x, void *w, void *k, void *r, void *y, int32_t units, int inner,
             int runs) {
  double best = 1e9;
  for (int i = 0; i < runs; i++) {
    double t = now();
    for (int j = 0; j < inner; j++) {
      if (r) ((added)f)(x, w, k, r, y, 0, units); else ((plain)f)(x, w, k, y, 0, units);
    }
    t = (now() - t) / inner;
    if (t < best) best = t;
  }
  return best;
}
"""


def conv(
    h: int,
    w: int,
    c: int,
    k: int,
    s: int,
    o: int,
    *,
    dw: bool = False,
    kw: int | None = None,
    res: bool = False,
    pad: bool = True,
) -> ContractionSpec:
    """A layer of h x w outputs, its input padded; `pad`: the output is inside a padded plane."""
    kw = k if kw is None else kw
    x = Plane.packed("uint8", 1, (h - 1) * s + k, (w - 1) * s + kw, c)
    outer = Plane.packed("uint8", 1, h + 2, w + 2, o) if pad else Plane.packed("uint8", 1, h, w, o)
    y = Plane("uint8", 1, h, w, o, outer.pitch_n, outer.pitch_y, outer.pitch_x)
    r = Plane.packed("uint8", 1, h, w, o) if res else None
    return ContractionSpec(x, y, (k, kw), (s, s), groups=c if dw else 1, residual=r)


LAYERS = {
    "big 3x3 28 128": conv(28, 28, 128, 3, 1, 128),
    "big 1x1 14 1024-256": conv(14, 14, 1024, 1, 1, 256, pad=False),
    "big 3x3 7 512": conv(7, 7, 512, 3, 1, 512),
    "resnet first 3x3 32 3-16": conv(32, 32, 3, 3, 1, 16),
    "resnet 3x3 32 16": conv(32, 32, 16, 3, 1, 16),
    "resnet 3x3 32 16 add": conv(32, 32, 16, 3, 1, 16, res=True),
    "resnet 3x3 16 32": conv(16, 16, 32, 3, 1, 32),
    "resnet 3x3 s2 16 16-32": conv(16, 16, 16, 3, 2, 32),
    "resnet 3x3 8 64": conv(8, 8, 64, 3, 1, 64),
    "resnet 1x1 s2 16-32": conv(16, 16, 16, 1, 2, 32),
    "dscnn first 10x4": conv(25, 5, 1, 10, 2, 64, kw=4),
    "dscnn pw 64": conv(25, 5, 64, 1, 1, 64),
    "dscnn dw 64": conv(25, 5, 64, 3, 1, 64, dw=True, pad=False),
    "vww first 3x3 s2 48 3-8": conv(48, 48, 3, 3, 2, 8),
    "vww dw 48 8": conv(48, 48, 8, 3, 1, 8, dw=True, pad=False),
    "vww pw 48 8-16": conv(48, 48, 8, 1, 1, 16),
    "vww dw s2 24 16": conv(24, 24, 16, 3, 2, 16, dw=True, pad=False),
    "vww pw 24 16-32": conv(24, 24, 16, 1, 1, 32),
    "vww dw 24 32": conv(24, 24, 32, 3, 1, 32, dw=True, pad=False),
    "vww pw 24 32-32": conv(24, 24, 32, 1, 1, 32),
    "vww pw 6 128-128": conv(6, 6, 128, 1, 1, 128),
    "vww dw 6 128": conv(6, 6, 128, 3, 1, 128, dw=True, pad=False),
    "vww pw 3 256-256": conv(3, 3, 256, 1, 1, 256, pad=False),
    "mbv2 first 3x3 s2 112 3-32": conv(112, 112, 3, 3, 2, 32),
    "mbv2 dw 112 32": conv(112, 112, 32, 3, 1, 32, dw=True, pad=False),
    "mbv2 pw 112 32-16": conv(112, 112, 32, 1, 1, 16, pad=False),
    "mbv2 pw 112 16-96": conv(112, 112, 16, 1, 1, 96),
    "mbv2 dw s2 56 96": conv(56, 56, 96, 3, 2, 96, dw=True, pad=False),
    "mbv2 pw 56 96-24": conv(56, 56, 96, 1, 1, 24, pad=False),
    "mbv2 pw 56 24-144": conv(56, 56, 24, 1, 1, 144),
    "mbv2 dw 56 144": conv(56, 56, 144, 3, 1, 144, dw=True, pad=False),
    "mbv2 pw 28 192-32 add": conv(28, 28, 192, 1, 1, 32, pad=False, res=True),
    "mbv2 pw 14 64-384": conv(14, 14, 64, 1, 1, 384),
    "mbv2 pw 14 384-64": conv(14, 14, 384, 1, 1, 64, pad=False),
    "mbv2 pw 7 960-160": conv(7, 7, 960, 1, 1, 160, pad=False),
    "mbv2 pw 7 320-1280": conv(7, 7, 320, 1, 1, 1280, pad=False),
    "mbv2 fc 1280-1001": conv(1, 1, 1280, 1, 1, 1001, pad=False),
    "squeeze first 7x7 s2": conv(111, 111, 3, 7, 2, 96, pad=False),
    "squeeze e3 55 16-64": conv(55, 55, 16, 3, 1, 64, pad=False),
    "squeeze s1 55 128-16": conv(55, 55, 128, 1, 1, 16),
    "squeeze e3 13 64-256": conv(13, 13, 64, 3, 1, 256, pad=False),
    "squeeze last 15 512-1000": conv(15, 15, 512, 1, 1, 1000, pad=False),
    "fc 640-128": conv(1, 1, 640, 1, 1, 128, pad=False),
    "fc 128-128": conv(1, 1, 128, 1, 1, 128, pad=False),
    "fc 8-128": conv(1, 1, 8, 1, 1, 128, pad=False),
    "fc 128-640": conv(1, 1, 128, 1, 1, 640, pad=False),
}

PEAK_MACS = 376e9  # vpdpbusd, 512 bits, two a cycle at 2.95 GHz; measured


def constants(rng: np.random.Generator, spec: ContractionSpec) -> Constants:
    o = spec.y.channels
    return Constants(
        rng.integers(-128, 128, spec.weight_shape).astype(np.int8),
        rng.integers(-1000, 1000, o),
        rng.integers(2**30, 2**31, o),
        rng.integers(39, 43, o),
        residual_mult=2**30 if spec.residual else 0,
    )


def measure(
    timer: ctypes.CDLL, library: ctypes.CDLL, name: str, case: Case, kernel: Kernel
) -> float:
    rng, spec = np.random.default_rng(0), case.spec
    tensors = [buffer(rng, "uint8", n) for n in (spec.x.span, spec.y.span, spec.y.span)]
    arrays = [*tensors, block_of(kernel.weights), block_of(kernel.constants)]
    x, y, r, w, k = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
    function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
    timer.least.restype = ctypes.c_double
    r = r if spec.residual else None
    once = timer.least(function, x, w, k, r, y, kernel.units, 1, 3)
    return float(timer.least(function, x, w, k, r, y, kernel.units, max(1, int(3e-4 / once)), 60))


def main() -> None:
    from qir.backends.tvm.build import build_object
    from qir.backends.tvm.kernels.registry import emit

    family = sys.argv[1] if len(sys.argv) > 1 else "vnni512"
    expected = sys.argv[2] if len(sys.argv) > 2 else ""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "t.c").write_text(TIMER)
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", str(path / "t.so"), str(path / "t.c")],
            check=True,
        )
        timer = ctypes.CDLL(str(path / "t.so"))
        for name, spec in LAYERS.items():
            if expected not in name:
                continue
            case = Case(spec, constants(rng, spec))
            kernel = prepare(spec, case.const, features(family))
            start = time.perf_counter()
            objects = build_object({"k": emit(kernel.code, "k")}, target(family))
            spent = time.perf_counter() - start
            own = Path(tempfile.mkdtemp(dir=folder))  # a path is never loaded twice
            seconds = measure(timer, link(objects, own), "k", case, kernel)
            rate = spec.macs / seconds
            tile = getattr(kernel.code, "tile", "")
            print(
                f"{name:28} {seconds * 1e6:8.2f} us {rate * 1e-9:7.1f} GMAC/s"
                f" {rate / PEAK_MACS:6.1%}"
                f"  compile {spent:.2f} s  {tile}",
                flush=True,
            )


if __name__ == "__main__":
    main()
