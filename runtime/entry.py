"""Entries: the programs of an artifact that share weights and a state, each with its own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from .errors import DataError
from .format import ENTRIES_ABI, Manifest
from .port import Array, Port

if TYPE_CHECKING:
    from .program import Program


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

    def check_count(self, given: Sequence[Any]) -> None:
        """Errors: DataError for another number of inputs."""
        if len(given) != len(self.inputs):
            needed = len(self.inputs)
            raise DataError(f"{self.where}: {len(given)} inputs given, {needed} are needed")

    def stored(self, given: Sequence[npt.ArrayLike]) -> list[Array]:
        """One input after the other as integers that can be stored, within their limits.

        Errors: DataError.
        """
        self.check_count(given)
        arrays = [port.stored(x) for port, x in zip(self.inputs, given, strict=True)]
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


@dataclass(frozen=True)
class Entry:
    """An entry to call. Every call takes the state first, which it reads and writes: what
    `new_state` gives, one for each sequence of calls. Calls with different states may run at once.
    """

    program: Program
    signature: Signature

    @property
    def name(self) -> str:
        return self.signature.name

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self.signature.outputs

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The manifest's entry of each step that runs."""
        return self.program.steps_of(self.signature)

    def __call__(self, state: Array, *reals: npt.ArrayLike) -> Any:
        """Reals in, reals out: one array, or a tuple when there are several outputs.

        Errors: DataError for inputs or a state that do not fit; the state is as it was.
        """
        return self.program.call(self.signature, state, reals)

    def run_integer(self, state: Array, *stored: npt.ArrayLike) -> tuple[Array, ...]:
        """Stored integers in, stored integers out."""
        return self.program.run_calls(state, [(self.name, stored)])[0]

    def profile(self, state: Array, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        """Each step's manifest entry, and the nanoseconds it took on these stored integers."""
        return self.program.profile_call(self.signature, state, stored)
