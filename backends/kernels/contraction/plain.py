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
from qir.backends.kernels.plane import BYTES, check_indices
from qir.backends.kernels.requantize.epilogue import ChannelConstants, Epilogue

FIELDS = {"add": "int64", "mult": "int32", "residual": "int32", "bias": "int32", "shift": "int8"}
"""The dtypes of what each channel has."""


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
        check_indices("contraction: bytes of the weights", self.weight_bytes)
        check_indices("contraction: bytes of the constants", self.constant_bytes)

    @property
    def arguments(self) -> tuple[str, ...]:
        return arguments(self.spec.residual is not None)

    @property
    def units(self) -> int:
        return self.spec.y.batch * self.spec.y.height

    @property
    def fields(self) -> tuple[str, ...]:
        """An array each, of all channels, after the multipliers of the weights; widest first."""
        if self.epilogue.raw:
            return ("bias",) if self.epilogue.biased else ()
        return ("add", "mult", *(("residual",) if self.epilogue.residual else ()), "shift")

    def field_at(self, name: str) -> int:
        """Where a field begins in the constants."""
        before = self.fields[: self.fields.index(name)]
        return self.records_at + self.spec.y.channels * sum(BYTES[FIELDS[f]] for f in before)

    @property
    def constant_bytes(self) -> int:
        each = sum(BYTES[FIELDS[f]] for f in self.fields)
        return self.records_at + self.spec.y.channels * each

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
    kinds = {name: np.dtype(dtype).newbyteorder("<") for name, dtype in FIELDS.items()}
    fields = b"".join(getattr(channels, f).astype(kinds[f]).tobytes() for f in code.fields)
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
