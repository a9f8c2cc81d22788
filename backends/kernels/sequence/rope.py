"""The kernel of rope_fixed: pairs of channels rotated by the angles of their token.

    rope(x: View, cos: View, sin: View, numbers: RopeNumbers, y: View, features)

Arguments ("x", "cos", "sin", "constants", "y"). The meaning is that of
qir.ir.ops.sequence.rope.RopeFixed.
"""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, in_pairs, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.sequence.rows import blocks
from qir.backends.kernels.view import View


@dataclass(frozen=True)
class RopeCode(NestCode):
    """The nest's operands: x, cos, sin, y; its last axis is the channels of a head.

    `is_high`: shifts are 32 or more, so that the high words of products are enough.
    """

    x: str
    table: str
    y: str
    low: int
    high: int
    pairs: int
    interleaved: bool
    steps: tuple[int, int]
    has_constants: bool
    is_high: bool
    nest: Nest
    vector_bytes: int
    in_pairs: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "cos", "sin", "constants", "y")

    @property
    def fields(self) -> Fields:
        return Fields((("mult", "int64", 1), ("shift", "int64", 1), ("one", "int32", 1)))


@dataclass(frozen=True)
class RopeNumbers:
    """Those of rope_fixed."""

    size: int
    interleaved: bool
    mult: int
    shift: int
    one: int
    clamp: tuple[int, int]


def rope(
    x: View, cos: View, sin: View, numbers: RopeNumbers, y: View, features: frozenset[str],
    has_constants: bool = False,
) -> Kernel:  # fmt: skip
    """x rotated; `steps` of the code: from an angle of cos and of sin to the next. Both may be
    constants.
    """
    heads, y_heads = blocks(x, numbers.size), blocks(y, numbers.size)
    zeros = [0] * (len(x.shape) - 2)
    angles = [(*zeros, table.strides[0], 0, 0) for table in (cos, sin)]
    loops = nest(heads.shape, (heads.strides, *angles, y_heads.strides), inner=1)
    steps = cos.strides[1], sin.strides[1]
    code = RopeCode(
        x.dtype, cos.dtype, y.dtype, *numbers.clamp, cos.shape[1], numbers.interleaved, steps,
        has_constants, 32 <= numbers.shift <= 62, loops, vector_bytes(features),
        in_pairs(features),
    )  # fmt: skip
    values = {name: int(getattr(numbers, name)) for name in ("mult", "shift", "one")}
    return Kernel(code, code.fields.pack(values))
