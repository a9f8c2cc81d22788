"""Nets from artifacts: loaded to run, or opened to look into them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qir import runtime
from qir.backends.artifact.names import REPORT
from qir.ir.errors import ArtifactError
from qir.ir.graph import Graph
from qir.ir.text.file import unpacked
from qir.ir.text.parser import parse
from qir.language_net import LanguageNet, is_language
from qir.net import Net, translated
from qir.report.model import Report
from qir.runtime import Program


def load(
    path: str | Path,
    threads: int = 1,
    emulate: bool = False,
    variant: str | None = None,
    sha256: str | None = None,
) -> Net:
    """The artifact in the folder `path`, every file of it checked, ready to run; of a language
    model, a LanguageNet.

    An artifact is a program: load only what you trust.
    sha256:   the expected `Net.sha256`, which detects another artifact in its place; the hashes
              inside the artifact detect damage.
    threads:  threads that share the work of a call.
    emulate:  run it under an emulator of its target.
    variant:  the machine whose code runs, of an artifact for several (default: the best one here).
    Errors: ArtifactError when it is damaged, incomplete, another one, or not for this machine;
    DataError for arguments out of range.
    """
    with translated():
        artifact = runtime.read(path, sha256)
        session = runtime.opened(artifact, threads, emulate, variant)
    return _net(path, session)


def look(path: str | Path) -> Net:
    """The artifact in the folder `path`, for inspection: none of its code runs, calls are refused.

    Errors: ArtifactError when it is damaged or incomplete.
    """
    with translated():
        program = Program(runtime.read(path))
    return _net(path, program)


def compiled(
    files: Mapping[str, bytes],
    stages: Mapping[str, Graph],
    report: Report,
    entries: Mapping[str, Graph] | None = None,
) -> Net:
    """The net of a new artifact, ready to run if this machine can."""
    with translated():
        artifact = runtime.from_files(files)
        try:
            session = runtime.opened(artifact)
        except runtime.MachineError:
            session = Program(artifact)
    return _of(session, stages, report, entries or {})


def _net(path: str | Path, session: Program) -> Net:
    files, manifest = session.loaded.files, session.manifest
    entries = {e["name"]: e["graph"] for e in manifest.get("entries", ())} or {
        "": manifest["graph"]
    }
    constants_file = manifest.get("constants") or f"{manifest['graph']}.npz"
    try:
        sources = {name: bytes(files[file]).decode() for name, file in entries.items()}
        constants = files[constants_file]
        report = Report.from_json(bytes(files[REPORT]).decode())
    except KeyError as e:
        raise ArtifactError(f"artifact {path}: no {e.args[0]} in it, one is needed") from e
    except UnicodeDecodeError as e:
        raise ArtifactError(f"artifact {path}: a text in it is no UTF-8, UTF-8 is needed") from e
    blobs = unpacked(bytes(constants), str(path))
    graphs = {name: parse(source, blobs) for name, source in sources.items()}
    first = next(iter(graphs.values()))
    return _of(session, {first.stage: first}, report, graphs if session.has_entries else {})


def _of(
    session: Program, stages: Mapping[str, Graph], report: Report, entries: Mapping[str, Graph]
) -> Net:
    """A net of the class that the artifact's entries ask for."""
    kind = LanguageNet if is_language(session) else Net
    return kind(session, stages, report, entries)
