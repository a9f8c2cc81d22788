"""One module per dot instruction: how TIR spells it."""

from qir.backends.tvm.dots import avx2, vnni
from qir.backends.tvm.dots.vector import VectorDot

DOTS: dict[str, VectorDot] = {
    dot.name: dot for dot in (vnni.Vnni512(), vnni.Vnni256(), avx2.Pairs(), avx2.Wide())
}
"""By the name of its `qir.backends.kernels.dots.Dot`."""

__all__ = ["DOTS", "VectorDot"]
