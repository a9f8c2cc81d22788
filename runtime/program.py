"""Program: an artifact whose inputs are checked, however it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, SupportsIndex

import numpy as np
import numpy.typing as npt

from .errors import ArtifactError, DataError
from .format import shown
from .load import Loaded
from .machine import check_machine
from .port import Array, Port


class Program:
    """An artifact that is described but not run, for example one for another machine.

    Sessions of artifacts that can run inherit from it.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded, self.manifest = loaded, loaded.manifest
        self.inputs = tuple(Port.of(entry) for entry in self.manifest["inputs"])
        self.outputs = tuple(Port.of(entry) for entry in self.manifest["outputs"])

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
        running = (v["steps"] for v in self.manifest["variants"] if v["name"] == self.variant)
        return list(next(running, self.manifest["steps"]))

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

    def golden(self) -> list[tuple[list[Array], list[Array]]]:
        """The artifact's golden (inputs, outputs), stored integers."""
        entry = self.manifest["golden"]
        content, at, cases = self.loaded.files[entry["file"]], 0, []
        for _ in range(entry["cases"]):
            arrays = []
            for port in (*self.inputs, *self.outputs):
                arrays.append(port.read(content, at))
                at += port.size_bytes
            cases.append((arrays[: len(self.inputs)], arrays[len(self.inputs) :]))
        return cases

    def selftest(self) -> int:
        """Run the golden inputs; the number of cases.

        Errors: ArtifactError when an output differs.
        """
        cases = self.golden()
        found = self.run_many([inputs for inputs, _ in cases])
        for number, ((_, wanted), got) in enumerate(zip(cases, found, strict=True)):
            for port, y, want in zip(self.outputs, got, wanted, strict=True):
                if not np.array_equal(y, want):
                    wrong = int(np.count_nonzero(y != want))
                    raise ArtifactError(
                        f"artifact {self.loaded.name}: golden case {number}, output {port.name}:"
                        f" {wrong} of {y.size} elements differ, 0 are needed"
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
            have = ", ".join(self.variants) or "none"
            raise DataError(
                f"artifact {self.loaded.name}: variant {shown(variant)}, one of those it has is"
                f" needed: {have}"
            )
        return self.variants.index(variant)

    def _count(self, given: Sequence[Any]) -> None:
        if len(given) != len(self.inputs):
            raise DataError(
                f"artifact {self.loaded.name}: {len(given)} inputs given, {len(self.inputs)}"
                " are needed"
            )

    def _stored(self, given: Sequence[npt.ArrayLike]) -> list[Array]:
        """One input after the other as integers that can be stored."""
        self._count(given)
        return [port.stored(x) for port, x in zip(self.inputs, given, strict=True)]

    def _refusal(self) -> ArtifactError:
        try:
            check_machine(self.manifest)
        except ArtifactError as e:
            return e
        return ArtifactError(
            f"artifact {self.loaded.name}: opened to look into it, not to run it",
            "qir.load opens it to run",
        )
