"""Net: a compiled model, to run, inspect, save and load; needs no compiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, SupportsIndex

from qir import runtime
from qir.backends.artifact.folder import write_folder
from qir.inputs import in_order
from qir.ir.data import unmasked
from qir.ir.errors import ArtifactError, DataError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.report.model import Report
from qir.runtime import Program, format


class Net:
    """An integer-only program with its history: float in, float out, or integers both ways.

    `stages` holds the graph after each stage of the compiler ("imported", "canonical",
    "transformed", "simulated", "integer"); of a loaded artifact there is "integer" alone. A program
    for another machine has all of this, and refuses calls.

    `entries` holds the integer graph of each entry, where there are several; `session.entries`
    calls them.
    """

    def __init__(
        self,
        session: Program,
        stages: Mapping[str, Graph],
        report: Report,
        entries: Mapping[str, Graph] | None = None,
    ) -> None:
        self.session, self.stages = session, MappingProxyType(dict(stages))
        self.entries = MappingProxyType(dict(entries or {}))
        self._report = report

    def __call__(self, *inputs: Any) -> Any:
        """Run the program on float inputs: arrays or tensors in order, or one mapping from names.

        Inputs of any float type are rounded to float32 and quantized: what is out of range,
        infinities too, is clamped, and NaN becomes the least stored value. Outputs are dequantized
        to float32. One output is an array, several are a tuple.
        Errors: DataError for inputs of another number, name, shape or kind, or with masked
        elements; ArtifactError when the program is for another machine.
        """
        arrays = self._in_order(inputs)
        with translated():
            return self.session(*arrays)

    def run_integer(self, *inputs: Any) -> Any:
        """Run the integer core alone: stored integers in, as __call__ takes them, and out."""
        arrays = self._in_order(inputs)
        with translated():
            outputs = self.session.run_integer(*arrays)
        return outputs[0] if len(outputs) == 1 else outputs

    def _in_order(self, inputs: tuple[Any, ...]) -> list[Array]:
        """The inputs of a call as arrays, those of a mapping in the program's order."""
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            inputs = in_order(inputs[0], [port.name for port in self.session.inputs], self.name)
        return [_array(x) for x in inputs]

    @property
    def name(self) -> str:
        """The name of the program."""
        return self._report.name

    def report(self) -> Report:
        """The report: every op with its bits, kernel, bytes, MACs, SQNR and time."""
        return self._report

    @property
    def sha256(self) -> str:
        """The hash of the artifact, which `qir.load(path, sha256=...)` compares."""
        return self.session.sha256

    def save(self, path: str | Path) -> Path:
        """Write the artifact that was compiled or loaded to the folder `path`, or write nothing.

        An artifact that is there is replaced; anything else is left as it is.
        Errors: ArtifactError when it cannot be written, or something else is there.
        """
        loaded = self.session.loaded
        manifest = {format.MANIFEST: format.sealed(loaded.manifest)}
        return write_folder(path, {**loaded.files, **manifest})

    def close(self) -> None:
        """End the threads of the pool; later calls run on the caller's thread."""
        self.session.close()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Errors: ArtifactError: machine code is neither pickled nor copied."""
        raise ArtifactError(
            f"net {self.name}: cannot be pickled or copied, a saved artifact is needed",
            "save writes it to a folder, qir.load reads it in any process",
        )

    def __repr__(self) -> str:
        return f"<qir.{type(self).__name__} {self.name} for {self._report.target}>"

    def _repr_html_(self) -> str:
        """The report's page, as a notebook shows it."""
        return self._report._repr_html_()


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of the runtime, which is independent of qir, as those of qir."""
    try:
        yield
    except runtime.ArtifactError as e:
        raise ArtifactError(e.lines, e.hint) from e
    except runtime.DataError as e:
        raise DataError(e.lines, e.hint) from e


def _array(x: Any) -> Array:
    """The argument as an array; torch tensors are detached.

    Errors: DataError for anything but an array of numbers.
    """
    try:
        return unmasked(x.detach().numpy() if hasattr(x, "detach") else x, "input")
    except (TypeError, ValueError, RuntimeError) as e:
        text = str(e).splitlines()[0]
        raise DataError(
            f"input: a {type(x).__name__} that is no array ({text}), one of numbers is needed"
        ) from e
