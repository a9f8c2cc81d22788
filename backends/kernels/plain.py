"""Contractions as plain loops, for any machine: weights in their own order, 64-bit epilogues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction import Array, Contraction, arguments
from qir.backends.kernels.epilogue import Channels, Epilogue


@dataclass(frozen=True)
class PlainCode:
    """Everything the machine code depends on. One unit of work is one row of Y."""

    spec: Contraction
    epilogue: Epilogue

    @property
    def arguments(self) -> tuple[str, ...]:
        return arguments(self.spec.residual is not None)

    @property
    def units(self) -> int:
        return self.spec.y.batch * self.spec.y.height

    @property
    def fields(self) -> tuple[str, ...]:
        """Each an int64 for every channel, after the weights."""
        if self.epilogue.raw:
            return ("bias",)
        return ("mult", "add", "shift") + (("residual",) if self.epilogue.residual else ())

    @property
    def records_at(self) -> int:
        return -(-int(np.prod(self.spec.weight_shape)) // 8) * 8


def pack_plain(code: PlainCode, weights: Array, channels: Channels) -> bytes:
    """Weights (O, ky, kx, I) as they are, then the fields."""
    head = np.ascontiguousarray(weights, np.int8).tobytes().ljust(code.records_at, b"\0")
    return head + b"".join(
        getattr(channels, field).astype("<i8").tobytes() for field in code.fields
    )
