"""Program: an artifact whose inputs are checked, however it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn, SupportsIndex

import numpy as np
import numpy.typing as npt

from .errors import ArtifactError, DataError
from .format import Content, show
from .load import Loaded
from .machine import check_machine
from .port import Array, Port
from .signature import Signature, signatures
from .state import new_state

Calls = Sequence[tuple[str, Sequence[npt.ArrayLike]]]
"""The name of an entry, and stored integers for its inputs, call by call."""


class Program:
    """An artifact that is described but not run, for example one for another machine.

    Sessions of artifacts that can run inherit from it.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded, self.manifest = loaded, loaded.manifest
        self.signatures = signatures(self.manifest)
        self.has_entries = bool(self.signatures[0].name)
        self.inputs = () if self.has_entries else self.signatures[0].inputs
        self.outputs = () if self.has_entries else self.signatures[0].outputs

    @property
    def sha256(self) -> str:
        """The hash that `load(..., sha256=)` takes."""
        return self.loaded.sha256

    @property
    def variants(self) -> tuple[str, ...]:
        """The machines that the artifact has code for, side by side; none where it is for one."""
        return tuple(str(v["name"]) for v in self.manifest["variants"])

    @property
    def variant(self) -> str | None:
        """The one of `variants` that runs; None where there are none, or nothing can run."""
        return None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The manifest's entry of each step that runs."""
        return self.steps_of(self.only)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The entries of the artifact, by name; none where it is one program without a state."""
        if not self.has_entries:
            return MappingProxyType({})
        return MappingProxyType({s.name: Entry(self, s) for s in self.signatures})

    @property
    def only(self) -> Signature:
        """Of an artifact without entries. Errors: DataError for one that has some."""
        if self.has_entries:
            names = ", ".join(s.name for s in self.signatures)
            raise DataError(
                f"artifact {self.loaded.name}: has the entries {names}, one of them is needed",
                f"entries[{self.signatures[0].name!r}](new_state(), ...)",
            )
        return self.signatures[0]

    def signature(self, entry: str) -> Signature:
        """Of the entry of this name. Errors: DataError when there is none."""
        for signature in self.signatures:
            if signature.name == entry:
                return signature
        names = ", ".join(s.name for s in self.signatures if s.name) or "none"
        raise DataError(
            f"artifact {self.loaded.name}: entry {show(entry)}, one of those it has is needed:"
            f" {names}"
        )

    def new_state(self, saved: Content | Array | None = None) -> Array:
        """The bytes of a state, for the entries: as it is before the first call, or as it was
        saved. They are the caller's: a copy saves them.

        Errors: DataError for saved bytes that are no state of this artifact's.
        """
        if not self.has_entries:
            raise DataError(f"artifact {self.loaded.name}: has no state, an entry is needed")
        return new_state(self.manifest, saved)

    def steps_of(self, signature: Signature) -> list[dict[str, Any]]:
        """The manifest's entry of each step of an entry that runs."""
        description = self._described(signature)
        running = (v["steps"] for v in description["variants"] if v["name"] == self.variant)
        return list(next(running, description["steps"]))

    def most_steps(self, signature: Signature) -> int:
        """The number of steps of an entry, of the variant that has most."""
        description = self._described(signature)
        return max(map(len, (description["steps"], *(v["steps"] for v in description["variants"]))))

    def _described(self, signature: Signature) -> Any:
        """What the manifest says of an entry."""
        return self.manifest["entries"][signature.number] if self.has_entries else self.manifest

    def __call__(self, *reals: npt.ArrayLike) -> Any:
        """Reals in, reals out: one array, or a tuple when there are several outputs."""
        raise self._refusal()

    def run_integer(self, *stored: npt.ArrayLike) -> tuple[Array, ...]:
        """Stored integers in, stored integers out."""
        return self.run_many([stored])[0]

    def run_many(self, cases: Sequence[Sequence[npt.ArrayLike]]) -> list[tuple[Array, ...]]:
        """Stored integers out, for each case of stored integers in."""
        raise self._refusal()

    def profile(self, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        """Each step's manifest entry, and the nanoseconds it took on these stored integers."""
        raise self._refusal()

    def call(self, signature: Signature, state: Array, reals: Sequence[npt.ArrayLike]) -> Any:
        """What Entry calls: reals in, reals out."""
        raise self._refusal()

    def run_calls(self, state: Array, calls: Calls) -> list[tuple[Array, ...]]:
        """Stored integers out, for each call of an entry by its name with stored integers, one
        after the other.
        """
        raise self._refusal()

    def profile_call(
        self, signature: Signature, state: Array, stored: Sequence[npt.ArrayLike]
    ) -> list[tuple[dict[str, Any], int]]:
        """What Entry.profile calls."""
        raise self._refusal()

    def golden(self) -> list[tuple[list[Array], list[Array]]]:
        """The artifact's golden (inputs, outputs), stored integers."""
        return [(inputs, outputs) for _, inputs, outputs in self.golden_calls()]

    def golden_calls(self) -> list[tuple[str, list[Array], list[Array]]]:
        """The same with the entry's name, empty where there are no entries."""
        entry, at, cases = self.manifest["golden"], 0, []
        content = self.loaded.files[entry["file"]]
        for name in entry["calls"] if self.has_entries else [""] * entry["cases"]:
            signature, arrays = self.signature(name), []
            for port in (*signature.inputs, *signature.outputs):
                arrays.append(port.decode(content, at))
                at += port.size_bytes
            count = len(signature.inputs)
            cases.append((name, arrays[:count], arrays[count:]))
        return cases

    def selftest(self) -> int:
        """Run the golden inputs, in order from a new state; the number of cases.

        Errors: ArtifactError when an output differs.
        """
        cases = self.golden_calls()
        if self.has_entries:
            outputs = self.run_calls(self.new_state(), [(name, x) for name, x, _ in cases])
        else:
            outputs = self.run_many([inputs for _, inputs, _ in cases])
        for number, ((name, _, expected), actual) in enumerate(zip(cases, outputs, strict=True)):
            for port, y, reference in zip(
                self.signature(name).outputs, actual, expected, strict=True
            ):
                if not np.array_equal(y, reference):
                    count = int(np.count_nonzero(y != reference))
                    raise ArtifactError(
                        f"artifact {self.loaded.name}: golden case {number}, output {port.name}:"
                        f" {count} of {y.size} elements differ, 0 are needed"
                    )
        return len(cases)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Errors: ArtifactError: machine code is neither pickled nor copied."""
        raise ArtifactError(
            f"artifact {self.loaded.name}: cannot be pickled or copied, its folder is needed",
            "qir.runtime.load reads the folder in any process",
        )

    def close(self) -> None:
        """Release the threads of the session."""

    def _number(self, variant: str) -> int:
        """Which of the variants it is, for the code."""
        if variant not in self.variants:
            variants = ", ".join(self.variants) or "none"
            raise DataError(
                f"artifact {self.loaded.name}: variant {show(variant)}, one of those it has is"
                f" needed: {variants}"
            )
        return self.variants.index(variant)

    def _refusal(self) -> ArtifactError:
        try:
            check_machine(self.manifest)
        except ArtifactError as e:
            return e
        return ArtifactError(
            f"artifact {self.loaded.name}: opened to look into it, not to run it",
            "qir.load opens it to run",
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
