"""Contractions as plain loops, for any machine: weights in their own order, 64-bit epilogues.

Weights of fewer than 8 bits are a stream of fields, little end first, of w + 2**(bits-1): weight i
begins at bit i * bits of them and may reach into the next byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from qir.backends.kernels.contraction.spec import Array, Constants, ContractionSpec, arguments
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.plane import check_indices
from qir.backends.kernels.requantize.epilogue import ChannelConstants, Epilogue


@dataclass(frozen=True)
class PlainCode:
    """Everything the machine code depends on. One unit of work is one row of Y.

    `bits`: of one weight. `block`: input channels that share a multiplier; 0: there are none.
    Errors: ValueError where the weights are too many for 32-bit indices: of their bytes, or below 8
    bits of their bits.
    """

    spec: ContractionSpec
    epilogue: Epilogue
    bits: int = 8
    block: int = 0

    def __post_init__(self) -> None:
        if self.bits < 8:
            check_indices("contraction: bits of the weights", self.weight_bits)
        field_bytes = 8 * len(self.fields) * self.spec.y.channels
        check_indices("contraction: bytes of the weights", self.weight_bytes)
        check_indices("contraction: bytes of the constants", self.records_at + field_bytes)

    @property
    def arguments(self) -> tuple[str, ...]:
        return arguments(self.spec.residual is not None)

    @property
    def units(self) -> int:
        return self.spec.y.batch * self.spec.y.height

    @property
    def fields(self) -> tuple[str, ...]:
        """Each an int64 for every channel, after the multipliers of the weights."""
        if self.epilogue.raw:
            return ("bias",)
        return ("mult", "add", "shift") + (("residual",) if self.epilogue.residual else ())

    @property
    def weight_bits(self) -> int:
        return self.bits * prod(self.spec.weight_shape)

    @property
    def parts(self) -> int:
        """Groups of input channels at one tap, each with a multiplier."""
        return -(-self.spec.weight_shape[-1] // self.block) if self.block else 0

    @property
    def weight_bytes(self) -> int:
        return -(-self.weight_bits // 8)

    @property
    def records_at(self) -> int:
        """Where the fields begin in the constants: after the u8 multipliers (O, ky, kx, parts)."""
        mults = prod(self.spec.weight_shape[:-1]) * self.parts
        return -(-mults // 8) * 8


def plain_kernel(code: PlainCode, const: Constants, channels: ChannelConstants) -> Kernel:
    """Weights (O, ky, kx, I); their multipliers in this order, then the fields."""
    mults = b""
    if code.block:
        mults = np.ascontiguousarray(const.group_mult, np.uint8).tobytes()
    fields = b"".join(getattr(channels, field).astype("<i8").tobytes() for field in code.fields)
    constants = mults.ljust(code.records_at, b"\0") + fields
    return Kernel(code, constants, stream(const.weights, code.bits))


def stream(weights: Array, bits: int) -> bytes:
    """8 bits: i8. Fewer: the lowest bits of w + 2**(bits-1), one weight after the other."""
    flat = np.ascontiguousarray(weights, np.int8).reshape(-1)
    if bits == 8:
        return flat.tobytes()
    raised = (flat.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    each = np.unpackbits(raised[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(each, bitorder="little").tobytes()
