"""The layout of an activation in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

BYTES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "uint32": 4,
         "int64": 8}  # fmt: skip
RANGE = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 2**16 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
}


INDICES = 2**31
"""Kernels index with int32: elements of a tensor, bytes of a constants block, units of work."""


def check_indices(subject: str, count: int) -> None:
    """Errors: ValueError where int32 cannot index so many."""
    if count >= INDICES:
        raise ValueError(f"{subject}: {count}, fewer than 2**31 are needed for 32-bit indices")


@dataclass(frozen=True)
class Plane:
    """An (N, H, W, C) activation whose channels are adjacent; pitches count elements.

    Element (n, y, x, c) is at `n * pitch_n + y * pitch_y + x * pitch_x + c` from the pointer that a
    kernel is given: the inside of a larger, padded plane is a Plane with larger pitches.
    Errors: ValueError when the sizes do not make a plane, or are too large for 32-bit indices.
    """

    dtype: str
    batch: int
    height: int
    width: int
    channels: int
    pitch_n: int
    pitch_y: int
    pitch_x: int

    def __post_init__(self) -> None:
        if self.dtype not in BYTES:
            raise ValueError(f"plane: dtype is {self.dtype}, one of {', '.join(BYTES)} is needed")
        if min(self.batch, self.height, self.width, self.channels) < 1:
            raise ValueError(f"plane: shape is {self.shape}, every size must be at least 1")
        if self.pitch_x < self.channels:
            raise ValueError(
                f"plane: pitch_x is {self.pitch_x}, {self.channels} channels need more"
            )
        check_indices("plane: elements from the first to the last", self.span)

    @classmethod
    def packed(cls, dtype: str, batch: int, height: int, width: int, channels: int) -> Plane:
        """The plane with no gaps."""
        row = width * channels
        return cls(dtype, batch, height, width, channels, height * row, row, channels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.height, self.width, self.channels

    @property
    def span(self) -> int:
        """Elements from the first to just past the last."""
        return (
            (self.batch - 1) * self.pitch_n
            + (self.height - 1) * self.pitch_y
            + (self.width - 1) * self.pitch_x
            + self.channels
        )

    @property
    def rows_adjoin(self) -> bool:
        """Pixel (y, W) would be pixel (y + 1, 0)."""
        return self.height == 1 or self.pitch_y == self.width * self.pitch_x

    @property
    def images_adjoin(self) -> bool:
        return self.batch == 1 or self.pitch_n == self.height * self.pitch_y

    def rows_joined(self) -> Plane:
        """The same elements as one long row per image; needs `rows_adjoin`."""
        width = self.width * self.height
        return replace(self, height=1, width=width, pitch_y=width * self.pitch_x)

    def images_joined(self) -> Plane:
        """The same elements as one image; needs `images_adjoin`."""
        height = self.height * self.batch
        return replace(self, batch=1, height=height, pitch_n=height * self.pitch_y)
