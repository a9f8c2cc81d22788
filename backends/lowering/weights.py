"""The constants of programs as one blob of bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from qir.backends.kernels import SLACK
from qir.backends.lowering.memory import aligned


@dataclass
class WeightBlob:
    """The blob of all constants, equal blocks once. It only grows, so offsets remain valid."""

    alignment: int
    parts: list[bytes] = field(default_factory=list)
    offsets: dict[bytes, int] = field(default_factory=dict)  # by SHA-256
    size: int = 0

    def add(self, block: bytes) -> int:
        """The offset of `block`, a multiple of the alignment."""
        key = sha256(block).digest()
        if key not in self.offsets:
            self.offsets[key] = self.size
            padded = block.ljust(aligned(len(block), self.alignment), b"\0")
            self.parts.append(padded)
            self.size += len(padded)
        return self.offsets[key]

    @property
    def blob(self) -> bytes:
        return b"".join([*self.parts, bytes(SLACK)])
