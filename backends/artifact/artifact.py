"""From an integer graph to an artifact: lowered, compiled, linked, described, and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from qir.backends.artifact.compiled import compiled
from qir.backends.artifact.folder import write_folder
from qir.backends.artifact.footprint import Footprint
from qir.backends.artifact.names import (
    CONSTANTS,
    GOLDEN,
    GRAPH,
    PROGRAM,
    README,
    RUNNER,
    WEIGHTS,
)
from qir.backends.artifact.readme import readme
from qir.backends.c import border, entry
from qir.backends.c.portable import check_integer_only
from qir.backends.kernels import SLACK
from qir.backends.lowering import variants
from qir.backends.lowering.program import Program, Step
from qir.backends.proofs.overflow import proofs, prove
from qir.backends.targets import find
from qir.backends.toolchain import elf
from qir.backends.toolchain.compile import Compiled
from qir.backends.toolchain.link import Linked, link
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.op import Value
from qir.ir.ranges import Intermediate
from qir.ir.target import Target
from qir.ir.text.file import packed
from qir.ir.text.printer import text
from qir.ir.types import Array, Quant, integer_of
from qir.runtime import format

GOLDEN_CASES = 2
TARGET_KEYS = (
    "name", "triple", "cpu", "features", "needs", "machine", "system", "pointer_bits"
)  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """All files of an artifact, in memory, manifest.json among them.

    `program`: of several variants the last, for the best machine. `intermediates`: the sums and
    products of the graph, each proven not to overflow.
    """

    name: str
    target: Target
    program: Program
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
        listed = dict(sorted({**self.manifest["files"], name: _listed(content)}.items()))
        manifest = {**self.manifest, "files": listed}
        files = {**self.files, name: content, format.MANIFEST: format.sealed(manifest)}
        return replace(self, manifest=manifest, files=files)


def build(
    graph: Graph,
    target: str | Target = "cpu",
    name: str | None = None,
    golden: Sequence[Sequence[Array]] | None = None,
) -> Artifact:
    """The artifact of an integer graph. The same graph, target and compilers give the same bytes.

    `golden`: stored integers for each input, case by case; by default random ones, the extremes
    among them.
    Errors: LowerError for what the target cannot do or a compiler that is missing, VerifyError for
    a proof that fails.
    """
    machine = find(target)
    programs = variants.lowered(graph, machine, entry.identifier(name or graph.name))
    program = programs[-1]
    intermediates = prove(graph)
    kernels = compiled(programs, machine)
    sources = _sources(programs, machine, kernels.texts)
    linked = link(
        machine, program.name, sources, kernels.objects, entry.exports(program, machine),
        _runner(program, machine),
    )  # fmt: skip
    cases = list(golden) if golden is not None else list(_examples(graph))
    footprint = Footprint.of(program, linked.object)
    files = _files(graph, program, sources, linked, cases)
    files[PROGRAM] = "\n".join(p.text for p in programs).encode()
    needed = elf.undefined(linked.object)
    files[README] = readme(program, machine, footprint, needed, _version("qir")).encode()
    proven = proofs(graph, intermediates, kernels.checked)
    manifest = {
        **_manifest(program, machine, files, linked, kernels, proven, len(cases)),
        "memory": footprint.entry(),
        "variants": [_variant(p, p.variant) for p in programs if p.variant is not None],
    }
    return Artifact(
        program.name,
        machine,
        program,
        manifest,
        {**files, format.MANIFEST: format.sealed(manifest)},
        intermediates,
    )


def _sources(
    programs: Sequence[Program], target: Target, texts: Mapping[str, str]
) -> dict[str, str]:
    """Every C file and header that is linked; `texts`: the kernels that are C."""
    program = programs[-1]
    name = program.name
    sources = {
        f"{name}.h": entry.header(programs, target, _version("qir")),
        f"{name}.c": entry.entry(programs, texts),
        f"{name}_border.c": border.source(program),
    }
    check_integer_only(f"{name}.c", sources[f"{name}.c"])
    if target.is_hosted:
        sources[f"{name}_pool.c"] = entry.pool(program)
    return sources


def _runner(program: Program, target: Target) -> dict[str, bytes]:
    """The files of the executable that runs the program where the target has an emulator."""
    if not target.emulator:
        return {}
    return {
        "runner.c": entry.runner(program).encode(),
        "freestanding.c": entry.freestanding().encode(),
        f"{program.name}_weights.S": entry.weights(program).encode(),
        WEIGHTS: program.weights,
        **entry.board(target),
    }


def _files(
    graph: Graph,
    program: Program,
    sources: Mapping[str, str],
    linked: Linked,
    cases: Sequence[Sequence[Array]],
) -> dict[str, bytes]:
    name = program.name
    return {
        **{file: source.encode() for file, source in sources.items()},
        f"{name}_test.c": entry.selftest(program, len(cases)).encode(),
        f"{name}.o": linked.object,
        f"lib{name}.a": linked.archive,
        **({f"lib{name}.so": linked.library} if linked.library else {}),
        **({RUNNER: linked.runner} if linked.runner else {}),
        f"{name}_weights.S": entry.weights(program).encode(),
        WEIGHTS: program.weights,
        GOLDEN: b"".join(_golden(graph, cases)),
        GRAPH: text(graph).encode(),
        CONSTANTS: packed(graph),
    }


def _manifest(
    program: Program,
    target: Target,
    files: Mapping[str, bytes],
    linked: Linked,
    kernels: Compiled,
    proven: Mapping[str, Any],
    cases: int,
) -> dict[str, Any]:
    return {
        "format": format.FORMAT,
        "abi": format.ABI,
        "name": program.name,
        "target": {
            key: list(held) if isinstance(held := getattr(target, key), tuple) else held
            for key in TARGET_KEYS
        },
        "inputs": [_tensor(v, v.name) for v in program.inputs],
        "outputs": [
            _tensor(v, n) for v, n in zip(program.outputs, program.output_names, strict=True)
        ],
        "steps": [_entry(step) for step in program.steps],
        "files": {n: _listed(c) for n, c in sorted(files.items())},
        "library": f"lib{program.name}.so" if linked.library else None,
        "runner": RUNNER if linked.runner else None,
        "emulator": list(target.emulator),
        "weights": WEIGHTS,
        "graph": GRAPH,
        "golden": {"file": GOLDEN, "cases": cases},
        "workspace_bytes": program.workspace_bytes,
        "workspace_bound": program.workspace_bound,
        "weights_bytes": len(program.weights),
        "stored_bytes": border.scratch(program)[1],
        "alignment": target.alignment,
        "input_slack": SLACK,
        "macs": program.macs,
        "versions": {"qir": _version("qir"), "tvm": kernels.version, "compiler": linked.compiler},
        "proofs": {**proven, "undefined_symbols": list(linked.undefined)},
    }  # fmt: skip


def _listed(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": format.digest(content)}


def _variant(program: Program, machine: Target) -> dict[str, Any]:
    return {
        "name": machine.name,
        "about": machine.about,
        "needs": list(machine.needs),
        "steps": [_entry(step) for step in program.steps],
    }


def _entry(step: Step) -> dict[str, Any]:
    return {
        "title": step.title,
        "kernel": step.symbol,
        "ops": list(step.ops),
        "units": step.units,
        "macs": step.macs,
        "bytes": step.bytes_moved,
        "constants_bytes": step.constants_bytes,
        "source": step.loc.source,
    }


def _tensor(value: Value, name: str) -> dict[str, Any]:
    kept = integer_of(value.type.elem)
    assert kept is not None  # verified: the graph is integer
    q = value.type.elem if isinstance(value.type.elem, Quant) else None
    return {
        "name": name,
        "dtype": str(value.type.elem.carrier),
        "shape": list(value.type.shape),
        "low": kept.min,
        "high": kept.max,
        "quantization": None
        if q is None
        else {
            "scale": [float(s) for s in q.scale.array.reshape(-1)],
            "zero_point": [int(z) for z in q.zero_point.array.reshape(-1)],
            "axis": q.axis,
        },
    }


def _examples(graph: Graph) -> Iterator[list[Array]]:
    """Golden inputs, the same each time: random ones, then the least and greatest values mixed."""
    rng = np.random.default_rng(0)
    for case in range(GOLDEN_CASES):
        arrays = []
        for value in graph.inputs:
            kept = integer_of(value.type.elem)
            assert kept is not None
            choices = np.array([kept.min, kept.max]) if case % 2 else None
            drawn = (
                rng.integers(kept.min, kept.max, value.type.shape, endpoint=True)
                if choices is None
                else rng.choice(choices, value.type.shape)
            )
            arrays.append(np.asarray(drawn, kept.carrier))
        yield arrays


def _golden(graph: Graph, cases: Sequence[Sequence[Array]]) -> Iterator[bytes]:
    """For each case the inputs and the interpreter's outputs, little endian."""
    for inputs in cases:
        for array, value in zip(
            (*inputs, *interpret(graph, inputs)), (*graph.inputs, *graph.outputs), strict=True
        ):
            yield np.ascontiguousarray(array, value.type.elem.carrier.newbyteorder("<")).tobytes()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
