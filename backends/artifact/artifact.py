"""From an integer graph to an artifact: lowered, compiled, linked, described, and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qir.backends.artifact.compiled import compiled
from qir.backends.artifact.folder import write_folder
from qir.backends.artifact.footprint import Footprint
from qir.backends.artifact.golden import Calls, examples, recorded
from qir.backends.artifact.manifest import listed, manifest, version_of
from qir.backends.artifact.names import (
    CONSTANTS,
    GOLDEN,
    PROGRAM,
    README,
    RUNNER,
    WEIGHTS,
    graph_file,
)
from qir.backends.artifact.readme import readme
from qir.backends.c import border, entry, executables
from qir.backends.c.header import header
from qir.backends.c.portable import check_integer_only
from qir.backends.lowering import variants
from qir.backends.lowering.program import LoweredProgram
from qir.backends.lowering.variants import last_variants
from qir.backends.proofs.overflow import proofs, prove
from qir.backends.targets import find
from qir.backends.toolchain import elf
from qir.backends.toolchain.link import Linked, link
from qir.ir.errors import LowerError
from qir.ir.graph import Graph
from qir.ir.ranges import Intermediate
from qir.ir.states import caller_inputs, caller_outputs
from qir.ir.target import Target
from qir.ir.text.file import packed
from qir.ir.text.printer import text
from qir.ir.verify import verify
from qir.runtime import format

ONLY = "call"
"""The entry of a single graph with states, where none is named."""


@dataclass(frozen=True)
class Artifact:
    """All files of an artifact, in memory, manifest.json among them.

    `program`: of several variants the last, for the best machine, and of several entries the
    first. `intermediates`: the sums and products of the graphs, each proven not to overflow.
    """

    name: str
    target: Target
    program: LoweredProgram
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    intermediates: tuple[Intermediate, ...] = ()

    def save(self, path: str | Path) -> Path:
        """Write the folder `path`, completely or not at all; an existing artifact is replaced.

        Errors: ArtifactError when it cannot be written, or when something else is in the way.
        """
        return write_folder(Path(path), self.files)

    def with_file(self, name: str, content: bytes) -> Artifact:
        """The same artifact with one file more, in the manifest as the others are."""
        every = dict(sorted({**self.manifest["files"], name: listed(content)}.items()))
        manifest = {**self.manifest, "files": every}
        files = {**self.files, name: content, format.MANIFEST: format.sealed(manifest)}
        return replace(self, manifest=manifest, files=files)


def build(
    graph: Graph | Mapping[str, Graph],
    target: str | Target = "cpu",
    name: str | None = None,
    golden: Sequence[Any] | None = None,
) -> Artifact:
    """The artifact of an integer graph, or of several, by the names of their entries: these share
    their constants, the workspace, and states of equal names.

    The same graphs, target and compilers give the same bytes. A single graph with states gets the
    entry `call`.
    `golden`: stored integers for each input, case by case, with entries as pairs of entry
    and inputs; by default random ones, the extremes among them.
    Errors: LowerError for what the target cannot do or a compiler that is missing, VerifyError for
    a proof that fails.
    """
    machine, graphs = find(target), _entries(graph)
    first = next(iter(graphs.values()))
    lowering = graphs if "" not in graphs else first
    programs = variants.lower_all(lowering, machine, entry.identifier(name or first.name))
    intermediates = [one for each in graphs.values() for one in prove(each)]
    kernels = compiled(programs, machine)
    sources = _sources(programs, machine, kernels.texts)
    entries = last_variants(programs)
    linked = link(
        machine, entries[0].name, sources, kernels.objects, entry.exports(programs, machine),
        _runner(entries, machine),
    )  # fmt: skip
    calls = _calls(graphs, golden)
    footprint = Footprint.of(entries, linked.object)
    files = _files(graphs, entries, sources, linked, calls)
    files[PROGRAM] = "\n".join(p.text for p in programs).encode()
    symbols = elf.undefined(linked.object)
    files[README] = readme(entries, machine, footprint, symbols, version_of("qir")).encode()
    proven = proofs(graphs.values(), intermediates, kernels.checked)
    described = {
        **manifest(programs, machine, files, linked, kernels, proven, [call for call, _ in calls]),
        "memory": footprint.entry(),
    }
    sealed = {**files, format.MANIFEST: format.sealed(described)}
    return Artifact(entries[0].name, machine, entries[0], described, sealed, tuple(intermediates))


def _entries(graph: Graph | Mapping[str, Graph]) -> Mapping[str, Graph]:
    """The graphs by entry; the name of a single one without states is empty.

    Errors: LowerError for a name that C cannot have, or a graph without inputs or outputs.
    """
    if isinstance(graph, Graph):
        graph = {ONLY if graph.states else "": graph}
        if "" in graph:
            return graph
    if not graph:
        raise LowerError("artifact: 0 entries, one or more are needed")
    for name, each in graph.items():
        verify(each)
        if entry.identifier(name) != name or name != name.lower():
            raise LowerError(f"entry {name!r}: a C identifier in lower case is needed")
        if not caller_inputs(each) or not caller_outputs(each):
            raise LowerError(
                f"entry {name}: {len(caller_inputs(each))} inputs and"
                f" {len(caller_outputs(each))} outputs beside its states, one of each is needed"
            )
    return graph


def _calls(graphs: Mapping[str, Graph], calls: Sequence[Any] | None) -> Calls:
    if calls is None:
        return list(examples(graphs))
    return [("", inputs) for inputs in calls] if "" in graphs else list(calls)


def _sources(
    programs: Sequence[LoweredProgram], target: Target, texts: Mapping[str, str]
) -> dict[str, str]:
    """Every C file and header that is linked; `texts`: the kernels that are C."""
    program = programs[-1]
    name = program.name
    sources = {
        f"{name}.h": header(programs, target, version_of("qir")),
        f"{name}.c": entry.entry(programs, texts),
        f"{name}_border.c": border.source(last_variants(programs)),
    }
    check_integer_only(f"{name}.c", sources[f"{name}.c"])
    if target.is_hosted:
        sources[f"{name}_pool.c"] = entry.pool(program)
    return sources


def _runner(entries: Sequence[LoweredProgram], target: Target) -> dict[str, bytes]:
    """The files of the executable that runs the program where the target has an emulator."""
    if not target.emulator:
        return {}
    program = entries[0]
    return {
        "runner.c": executables.runner(entries).encode(),
        "freestanding.c": executables.freestanding().encode(),
        f"{program.name}_weights.S": entry.weights(program).encode(),
        WEIGHTS: program.weights,
        **executables.board(target),
    }


def _files(
    graphs: Mapping[str, Graph],
    entries: Sequence[LoweredProgram],
    sources: Mapping[str, str],
    linked: Linked,
    calls: Calls,
) -> dict[str, bytes]:
    program = entries[0]
    name = program.name
    return {
        **{file: source.encode() for file, source in sources.items()},
        f"{name}_test.c": executables.selftest(entries, [call for call, _ in calls]).encode(),
        f"{name}.o": linked.object,
        f"lib{name}.a": linked.archive,
        **({f"lib{name}.so": linked.library} if linked.library else {}),
        **({RUNNER: linked.runner} if linked.runner else {}),
        f"{name}_weights.S": entry.weights(program).encode(),
        WEIGHTS: program.weights,
        GOLDEN: recorded(graphs, calls),
        **{graph_file(key): text(graph).encode() for key, graph in graphs.items()},
        CONSTANTS: packed(*graphs.values()),
    }
