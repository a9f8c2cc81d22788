"""Net: a compiled model, ready to run, to look into, to save and to load; needs no compiler."""

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
        """Outputs as float32 of float inputs (arrays or tensors), quantized at the border.

        One output comes as an array, several as a tuple.
        Errors: DataError for inputs of another number, shape or kind; ArtifactError when the
        program is for another machine.
        """
        with translated():
            return self.session(*(_array(x) for x in inputs))

    def run_integer(self, *inputs: Any) -> Any:
        """Stored integers of the outputs, of stored integers of the inputs: the core alone."""
        with translated():
            outputs = self.session.run_integer(*(_array(x) for x in inputs))
        return outputs[0] if len(outputs) == 1 else outputs

    def report(self) -> Report:
        """What was compiled, and how well: per op, worst SQNR first."""
        return self._report

    def save(self, path: str | Path) -> Path:
        """Write the whole artifact to the folder `path`, whole or not at all.

        Errors: ArtifactError when it cannot be written.
        """
        with translated():
            loaded = runtime.read(self.folder)  # checked once more before it is handed on
        manifest = {format.MANIFEST: format.sealed(loaded.manifest)}
        return write_folder(Path(path), {**loaded.files, **manifest})

    def __repr__(self) -> str:
        return f"<qir.Net {self._report.name} for {self._report.target}>"


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
