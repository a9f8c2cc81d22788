"""Net: a compiled model, to run, inspect, save and load; needs no compiler."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from qir import runtime
from qir.backends.artifact.folder import write_folder
from qir.inputs import in_order
from qir.ir.errors import ArtifactError, DataError
from qir.ir.graph import Graph
from qir.ir.text.file import unpacked
from qir.ir.text.parser import parse
from qir.ir.types import Array
from qir.report.model import Report
from qir.runtime import Loaded, Program, format

REPORT = "report.json"


class Net:
    """An integer-only program with its history: float in, float out, or integers both ways.

    `stages` holds the graph after each stage of the compiler ("imported", "canonical",
    "transformed", "simulated", "integer"); of a loaded artifact there is "integer" alone. A program
    for another machine has all of this, and refuses calls.
    """

    def __init__(
        self,
        session: Program,
        folder: Path,
        stages: Mapping[str, Graph],
        report: Report,
        keep: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.session, self.folder, self.stages = session, folder, MappingProxyType(dict(stages))
        self._report = report
        self._keep = keep  # an artifact that is not saved yet lives as long as the net

    def __call__(self, *inputs: Any) -> Any:
        """Run the program on float inputs: arrays or tensors in order, or one mapping from names.

        Inputs are quantized and outputs dequantized to float32. One output is an array, several
        are a tuple.
        Errors: DataError for inputs of another number, name, shape or kind; ArtifactError when the
        program is for another machine.
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

    def save(self, path: str | Path) -> Path:
        """Write the artifact to the folder `path`, completely or not at all.

        Errors: ArtifactError when it cannot be written.
        """
        with translated():
            loaded = runtime.read(self.folder)  # checked once more before it is handed on
        manifest = {format.MANIFEST: format.sealed(loaded.manifest)}
        return write_folder(Path(path), {**loaded.files, **manifest})

    def __repr__(self) -> str:
        return f"<qir.Net {self.name} for {self._report.target}>"

    def _repr_html_(self) -> str:
        """The report's page, as a notebook shows it."""
        return self._report._repr_html_()


def load(
    path: str | Path, threads: int = 1, emulate: bool = False, variant: str | None = None
) -> Net:
    """The artifact in the folder `path`, every file of it checked, ready to run.

    `emulate`: run it under an emulator of the machine it was made for. `variant`: of an artifact
    for several machines, the one whose code runs in place of the best.
    Errors: ArtifactError when it is damaged, incomplete, or not for this machine.
    """
    with translated():
        loaded = runtime.read(path)
        session = runtime.opened(loaded, threads, emulate, variant)
    return _net(Path(path), loaded, session)


def look(path: str | Path) -> Net:
    """The artifact in the folder `path`, to look into: one for another machine is welcome.

    Errors: ArtifactError when it is damaged or incomplete.
    """
    with translated():
        loaded = runtime.read(path)
    return _net(Path(path), loaded, _session(loaded))


def made(
    folder: Path,
    stages: Mapping[str, Graph],
    report: Report,
    home: tempfile.TemporaryDirectory[str],
) -> Net:
    """The net of an artifact just written; `home` keeps its folder until the net is gone."""
    with translated():
        session = _session(runtime.read(folder))
    return Net(session, folder, stages, report, home)


def _session(loaded: Loaded) -> Program:
    """Ready to run where this machine can."""
    with translated():
        try:
            return runtime.opened(loaded)
        except runtime.MachineError:
            return Program(loaded)


def _net(path: Path, loaded: Loaded, session: Program) -> Net:
    try:
        source = loaded.files[loaded.manifest["graph"]].decode()
        packed = loaded.files[loaded.manifest["graph"] + ".npz"]
        graph = parse(source, unpacked(packed, str(path)))
        report = Report.from_json(loaded.files[REPORT].decode())
    except (KeyError, UnicodeDecodeError) as e:
        raise ArtifactError(
            f"artifact {path}: {e} is missing or damaged, a whole one is needed"
        ) from e
    return Net(session, path, {graph.stage: graph}, report)


@contextmanager
def translated() -> Iterator[None]:
    """The runtime stands alone and has errors of its own; here they become qir's."""
    try:
        yield
    except runtime.ArtifactError as e:
        raise ArtifactError(e.text, e.hint) from e
    except runtime.DataError as e:
        raise DataError(e.text, e.hint) from e


def _array(x: Any) -> Array:
    """An array of what was given: torch tensors leave their graph."""
    return np.asarray(x.detach().numpy() if hasattr(x, "detach") else x)
