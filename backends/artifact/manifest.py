"""The manifest of an artifact: what runtime/format.py and runtime/schema.py describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from qir.backends.artifact.names import CONSTANTS, GOLDEN, GRAPH, RUNNER, WEIGHTS, graph_file
from qir.backends.c import border
from qir.backends.kernels import SLACK
from qir.backends.lowering.program import LoweredProgram, Step
from qir.backends.lowering.variants import by_entry
from qir.backends.toolchain.compile import Compiled
from qir.backends.toolchain.link import Linked
from qir.ir.op import Value
from qir.ir.target import Target
from qir.ir.types import Quant, integer_of
from qir.runtime import format

TARGET_KEYS = (
    "name", "triple", "cpu", "features", "needs", "machine", "system", "pointer_bits"
)  # fmt: skip


def manifest(
    programs: Sequence[LoweredProgram],
    target: Target,
    files: Mapping[str, bytes],
    linked: Linked,
    kernels: Compiled,
    proven: Mapping[str, Any],
    calls: Sequence[str],
) -> dict[str, Any]:
    """The manifest but for the memory; `calls`: the entry of each golden case."""
    program = programs[-1]
    common = {
        "format": format.FORMAT,
        "name": program.name,
        "target": {
            key: list(value) if isinstance(value := getattr(target, key), tuple) else value
            for key in TARGET_KEYS
        },
        "files": {n: listed(c) for n, c in sorted(files.items())},
        "library": f"lib{program.name}.so" if linked.library else None,
        "runner": RUNNER if linked.runner else None,
        "emulator": list(target.emulator),
        "weights": WEIGHTS,
        "workspace_bytes": program.workspace_bytes,
        "workspace_bound": program.workspace_bound,
        "weights_bytes": len(program.weights),
        "alignment": target.alignment,
        "input_slack": SLACK,
        "versions": {
            "qir": version_of("qir"), "tvm": kernels.version, "compiler": linked.compiler
        },
        "proofs": {**proven, "undefined_symbols": list(linked.undefined)},
    }  # fmt: skip
    if not program.entry:
        return {
            **common,
            "abi": format.ABI,
            **_entry(programs),
            "graph": GRAPH,
            "golden": {"file": GOLDEN, "cases": len(calls)},
            "variants": [
                {**_machine(p.variant), "steps": _steps(p)}
                for p in programs
                if p.variant is not None
            ],
        }
    return {**common, **_of_entries(programs), "golden": {"file": GOLDEN, "calls": list(calls)}}


def _of_entries(programs: Sequence[LoweredProgram]) -> dict[str, Any]:
    """What an artifact with entries has in place of one program's own."""
    program, entries = programs[-1], by_entry(programs)
    return {
        "abi": format.ENTRIES_ABI,
        "entries": [
            {
                "name": of_one[-1].entry,
                **_entry(of_one),
                "graph": graph_file(of_one[-1].entry),
                "limits": [
                    {"input": limit.index, "low": limit.low, "high": limit.high}
                    for limit in of_one[-1].limits
                ],
                "variants": [
                    {"name": p.variant.name, "steps": _steps(p)}
                    for p in of_one
                    if p.variant is not None
                ],
            }
            for of_one in entries
        ],
        "states": [
            {**_tensor(s.value, s.value.name), "offset": s.offset, "initial": s.initial}
            for s in program.states
        ],
        "state_bytes": program.state_bytes,
        "constants": CONSTANTS,
        "variants": [_machine(p.variant) for p in entries[0] if p.variant is not None],
    }


def _entry(programs: Sequence[LoweredProgram]) -> dict[str, Any]:
    """What a program has of its own; of several variants, the last."""
    program = programs[-1]
    return {
        "inputs": [_tensor(v, v.name) for v in program.inputs],
        "outputs": [
            _tensor(v, n) for v, n in zip(program.outputs, program.output_names, strict=True)
        ],
        "steps": _steps(program),
        "stored_bytes": border.scratch(program)[1],
        "macs": program.macs,
    }


def listed(content: bytes) -> dict[str, Any]:
    """A file in the manifest."""
    return {"bytes": len(content), "sha256": format.digest(content)}


def _machine(machine: Target) -> dict[str, Any]:
    return {"name": machine.name, "about": machine.about, "needs": list(machine.needs)}


def _steps(program: LoweredProgram) -> list[dict[str, Any]]:
    """Every step, with its job and its branch where several may run at the same time."""
    has_jobs = program.has_jobs
    return [_step(s) | (_side_by_side(s) if has_jobs else {}) for s in program.steps]


def _side_by_side(step: Step) -> dict[str, Any]:
    branch = {} if step.branch is None else {"branch": list(step.branch)}
    return {"job": step.job, **branch}


def _step(step: Step) -> dict[str, Any]:
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
    storage = integer_of(value.type.elem)
    assert storage is not None  # verified: the graph is integer
    q = value.type.elem if isinstance(value.type.elem, Quant) else None
    return {
        "name": name,
        "dtype": str(value.type.elem.carrier),
        "shape": list(value.type.shape),
        "low": storage.min,
        "high": storage.max,
        "quantization": None
        if q is None
        else {
            "scale": [float(s) for s in q.scale.array.reshape(-1)],
            "zero_point": [int(z) for z in q.zero_point.array.reshape(-1)],
            "axis": q.axis,
        },
    }


def version_of(package: str) -> str:
    """The installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
