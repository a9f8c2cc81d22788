"""Dot instructions in TIR, one module per family."""

from qir.backends.tvm.dots import avx2, hvx, neon, rvv, smlad, vnni
from qir.backends.tvm.dots.vector import HalvesDot, PackingDot, VectorDot

DOTS: dict[str, VectorDot] = {
    dot.name: dot
    for dot in (
        vnni.Vnni512(), vnni.Vnni256(), avx2.Avx2Pairs(), avx2.Nibbles(), avx2.Wide(),
        neon.Usmmla(), neon.Usdot(), neon.Sdot(), neon.NeonPairs(), neon.NeonWide(),
        neon.Armv7Pairs(), neon.Armv7Wide(), smlad.Vmladava(), smlad.Smlad(), rvv.Vwmacc(),
        hvx.VrmpyWord(), hvx.Vrmpy(),
    )
}  # fmt: skip
"""By the name of its `qir.backends.kernels.dots.Dot`."""

__all__ = ["DOTS", "HalvesDot", "PackingDot", "VectorDot"]
