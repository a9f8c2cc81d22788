"""What an entry of an artifact takes and gives: its ports, and the limits of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from .errors import DataError
from .format import ENTRIES_ABI, Manifest
from .port import Array, Port


@dataclass(frozen=True)
class Limit:
    """Every element of input number `input` is in [low, high]: positions, rows of tables."""

    input: int
    low: int
    high: int


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of an entry, the number `number` in the artifact. A program without
    entries has one, without a name.
    """

    artifact: str
    name: str
    number: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    limits: tuple[Limit, ...]
    stored_bytes: int

    @property
    def function(self) -> str:
        """What the names of its C functions start with, after the artifact's."""
        return f"{self.name}_" if self.name else ""

    @property
    def where(self) -> str:
        """For errors."""
        return f"artifact {self.artifact}" + (f", entry {self.name}" if self.name else "")

    def check_count(self, inputs: Sequence[Any]) -> None:
        """Errors: DataError for another number of inputs."""
        if len(inputs) != len(self.inputs):
            count = len(self.inputs)
            raise DataError(f"{self.where}: {len(inputs)} inputs given, {count} are needed")

    def stored(self, inputs: Sequence[npt.ArrayLike]) -> list[Array]:
        """One input after the other as integers that can be stored, within their limits.

        Errors: DataError.
        """
        self.check_count(inputs)
        arrays = [port.stored(x) for port, x in zip(self.inputs, inputs, strict=True)]
        for i, a in enumerate(arrays):
            self.check_limits(a, i)
        return arrays

    def check_limits(self, a: Array, i: int) -> None:
        """Errors: DataError for elements of input `i` out of its limits."""
        for limit in self.limits:
            if limit.input == i and not (limit.low <= a.min() and a.max() <= limit.high):
                raise DataError(
                    f"{self.where}, input {self.inputs[i].name}: values reach"
                    f" [{a.min()}, {a.max()}], [{limit.low}, {limit.high}] is needed"
                )


def signatures(manifest: Manifest) -> tuple[Signature, ...]:
    """Of each entry, or of the one program."""
    has_entries = manifest["abi"] == ENTRIES_ABI
    return tuple(
        Signature(
            manifest["name"],
            entry["name"] if has_entries else "",
            number,
            tuple(map(Port.of, entry["inputs"])),
            tuple(map(Port.of, entry["outputs"])),
            tuple(Limit(**limit) for limit in entry["limits"]) if has_entries else (),
            entry["stored_bytes"],
        )
        for number, entry in enumerate(manifest["entries"] if has_entries else [manifest])
    )
