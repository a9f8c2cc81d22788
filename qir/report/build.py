"""The report of an artifact: rows, ports and proofs, from the integer graph and the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from statistics import median
from typing import TYPE_CHECKING, Any

from qir.backends.lowering.fuse import Fusion, fuse
from qir.ir.graph import Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant, Conv, Linear, Lookup, MatMul, ScaleGroups
from qir.ir.ranges import Intermediate
from qir.ir.states import caller_inputs, caller_outputs
from qir.ir.types import Quant, integer_of
from qir.passes.infra.manager import Record
from qir.report.model import Report
from qir.report.rows import EntryRow, Margin, OpRow, PassRow, Port, Proofs, Sizes

if TYPE_CHECKING:
    from qir.backends.artifact.artifact import Artifact

IN_PLACE = "in place"
TIGHTEST = 8  # margins that the report shows, of all that the proof has


def build_report(
    artifact: Artifact,
    graph: Graph | Mapping[str, Graph],
    records: Iterable[Record],
    intermediates: Iterable[Intermediate],
    sqnr_db: Mapping[str, float] | None = None,
) -> Report:
    """The report of an artifact and the integer graph it was built from, or the graphs of its
    entries: its rows and ports are then those of the first.

    records: of the passes; intermediates: of the overflow proof. Sizes are those of the files
    without the report itself.
    """
    manifest, files, every = artifact.manifest, artifact.files, tuple(records)
    checked = manifest["proofs"]["integer_only"]["kernels"]
    graphs = [graph] if isinstance(graph, Graph) else [*graph.values()]
    first = manifest["entries"][0] if "entries" in manifest else manifest
    return Report(
        name=artifact.name,
        target=artifact.target.name,
        rows=rows(
            graphs[0],
            kernels_by_op(first["steps"]),
            sqnr_db,
            packed=packed_by_op(first["steps"]),
        ),
        passes=pass_rows(every),
        proofs=proofs(
            graphs, intermediates, f"{len(checked)} kernels, no float in the code of any"
        ),
        sizes=sizes(manifest, sum(map(len, files.values()))),
        inputs=ports(caller_inputs(graphs[0])),
        outputs=ports(*zip(*caller_outputs(graphs[0]), strict=True)),
        created_by=tuple(sorted((str(k), str(v)) for k, v in manifest["versions"].items())),
        variants=tuple(v["name"] for v in manifest["variants"]),
        warnings=tuple(text for r in every for text in r.warnings),
        notes=tuple(f"{r.name}: {text}" for r in every for text in r.notes),
        entries=tuple(map(entry_row, manifest.get("entries", ()))),
    )


def entry_row(entry: Mapping[str, Any]) -> EntryRow:
    """An entry as the manifest has it."""
    shape = entry["inputs"][0]["shape"]
    return EntryRow(
        entry["name"],
        shape[1] if len(shape) > 1 else 1,
        len(entry["steps"]),
        entry["macs"],
        sum(step["bytes"] for step in entry["steps"]),
        sum(step["constants_bytes"] for step in entry["steps"]),
    )


def sizes(manifest: Mapping[str, Any], total: int) -> Sizes:
    """The sizes in an artifact's manifest; `total` bytes are all files."""
    memory, weights = manifest["memory"], manifest["weights_bytes"]
    return Sizes(
        weights=weights,
        code=memory["flash_bytes"] - weights,
        workspace=manifest["workspace_bytes"],
        total=total,
        flash=memory["flash_bytes"],
        ram=memory["ram_bytes"],
        inputs=memory["input_bytes"],
        outputs=memory["output_bytes"],
        state=manifest.get("state_bytes", 0),
    )


def rows(
    graph: Graph,
    kernels: Mapping[str, str] | None = None,
    sqnr_db: Mapping[str, float] | None = None,
    micros: Mapping[str, float] | None = None,
    packed: Mapping[str, int] | None = None,
) -> tuple[OpRow, ...]:
    """A row for each fusion of ops in one kernel, in order; mappings are by its result.

    Without `kernels`, the op's mnemonic takes the kernel's place; with them, an op without a kernel
    is a view of memory, IN_PLACE.
    """
    fixed = {op.names[0]: op for op in graph.ops if isinstance(op, Constant | ScaleGroups)}
    result = []
    by_rows = not any(f.rows and f.anchor.result.name in (kernels or {}) for f in fuse(graph))
    for fusion in fuse(graph, by_rows):
        name = fusion.result.name
        result.append(
            OpRow(
                name=name,
                op=title(fusion),
                loc=Loc.merged(*(op.loc for op in fusion.ops)).source,
                kernel=(fusion.anchor.mnemonic if kernels is None else kernels.get(name, IN_PLACE)),
                bits=bits(fusion, fixed),
                shape=fusion.result.type.shape,
                macs=macs(fusion.anchor),
                weight_bytes=weight_bytes(fusion, fixed),
                sqnr_db=(sqnr_db or {}).get(name),
                micros=(micros or {}).get(name),
                reads=tuple(dict.fromkeys(v.name for v in fusion.operands if v.name not in fixed)),
                packed_bytes=(packed or {}).get(name),
            )
        )
    return tuple(result)


def kernels_by_op(steps: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The kind of kernel that computes each op, of the steps in an artifact's manifest.

    Steps name kernels by kind and number; the number is dropped.
    """
    return {n: str(step["kernel"]).rstrip("0123456789") for step in steps for n in step["ops"]}


def packed_by_op(steps: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The bytes of the constants of the kernel that computes each op, of the manifest's steps."""
    return {n: int(step["constants_bytes"]) for step in steps for n in step["ops"]}


def micros_by_op(runs: Iterable[Iterable[tuple[Mapping[str, Any], int]]]) -> dict[str, float]:
    """The median microseconds of each row, of profiles: lists of (step, nanoseconds).

    Steps that only move inputs and outputs belong to no op and are left out.
    """
    totals: dict[str, list[int]] = {}
    for run in runs:
        once: dict[str, int] = {}
        for step, nanoseconds in run:
            if step["ops"]:
                last = str(step["ops"][-1])
                once[last] = once.get(last, 0) + nanoseconds
        for name, total in once.items():
            totals.setdefault(name, []).append(total)
    return {name: median(times) / 1000 for name, times in totals.items()}


def title(fusion: Fusion) -> str:
    """A short name of the fusion's computation: "conv 3x3 /2", "conv 1x1 + add"."""
    op = fusion.anchor
    text = op.mnemonic
    if isinstance(op, Conv):
        kind = "depthwise" if op.is_depthwise else "conv"
        text = f"{kind} {op.kernel[0]}x{op.kernel[1]}"
        if op.stride != (1, 1):
            text += f" /{op.stride[0]}" if op.stride[0] == op.stride[1] else f" /{op.stride}"
    elif op.mnemonic == "requantize" and len(op.operands) > 1:
        text = "add"
    return text if fusion.residual is None else f"{text} + add"


def macs(op: Op) -> int:
    """Multiply-accumulates of one run: result elements times products in each; 0 for other ops."""
    match op:
        case Conv() | Linear():
            return op.result.type.size * prod(op.w.type.shape[1:])
        case MatMul():
            return op.result.type.size * op.a.type.shape[-1]
        case _:
            return 0


def bits(fusion: Fusion, fixed: Mapping[str, Constant | ScaleGroups]) -> str:
    """The stored types: products joined by x, addends by +, then the result.

    Weights by groups of 32 input channels are i4g32.
    """
    op = fusion.anchor
    match op:
        case Conv() | Linear():
            text = f"{_storage(op.x)} x {_weights(op.w, fixed)}"
        case MatMul():
            text = f"{_storage(op.a)} x {_storage(op.b)}"
        case _:
            operands = [_storage(v) for v in op.operands if v.name not in fixed]
            texts = " + ".join(operands), ", ".join(dict.fromkeys(operands))
            text = texts[0] if op.mnemonic == "requantize" else texts[1]
    if fusion.residual is not None:
        text += f" + {_storage(fusion.residual)}"
    return f"{text} -> {_storage(fusion.result)}"


def _weights(value: Value, fixed: Mapping[str, Constant | ScaleGroups]) -> str:
    source = fixed.get(value.name)
    if isinstance(source, ScaleGroups):
        return f"{_storage(source.w)}g{source.block}"
    return _storage(value)


def weight_bytes(fusion: Fusion, fixed: Mapping[str, Constant | ScaleGroups]) -> int:
    """Bytes of the constants and tables that the fusion reads, at their true widths."""
    operands = [v for op in fusion.ops for v in op.operands if v.name in fixed]
    stored: dict[str, Value] = {}
    for value in operands:
        source = fixed[value.name]
        parts = source.operands if isinstance(source, ScaleGroups) else (value,)
        stored.update({v.name: v for v in parts})
    total = sum(size_bytes(v) for v in stored.values())
    if isinstance(fusion.anchor, Lookup):
        total += fusion.anchor.table.array.nbytes
    return total


def size_bytes(value: Value) -> int:
    storage = integer_of(value.type.elem)
    width = storage.bits if storage is not None else 8 * value.type.elem.carrier.itemsize
    return -(-value.type.size * width // 8)


def ports(values: Iterable[Value], names: Iterable[str] | None = None) -> tuple[Port, ...]:
    """Inputs or outputs with their quantization; `names` are the model's own."""
    every = tuple(values)
    labels = tuple(names) if names is not None else tuple(v.name for v in every)
    return tuple(_port(v, label) for v, label in zip(every, labels, strict=True))


def _port(value: Value, name: str) -> Port:
    elem = value.type.elem
    if isinstance(elem, Quant) and elem.is_per_tensor:
        scale, zero = float(elem.scale.array), int(elem.zero_point.array)
        return Port(name, value.name, value.type.shape, str(elem.storage), scale, zero)
    return Port(name, value.name, value.type.shape, _storage(value))


def _storage(value: Value) -> str:
    storage = integer_of(value.type.elem)
    return str(storage if storage is not None else value.type.elem)


def pass_rows(records: Iterable[Record]) -> tuple[PassRow, ...]:
    return tuple(
        PassRow(r.name, str(r.claim), r.seconds, r.rewrites, r.ops_before, r.ops_after, r.error)
        for r in records
    )


def proofs(graphs: Sequence[Graph], intermediates: Iterable[Intermediate], kernels: str) -> Proofs:
    """The proofs of graphs that passed verify(), and prove_no_overflow(), which gave the rest.

    Results are not among the tightest: a clamp fills its storage on purpose.
    """
    every = tuple(intermediates)
    constants = sum(isinstance(op, Constant) for graph in graphs for op in graph.ops)
    ops = sum(len(graph.ops) for graph in graphs) - constants
    margins = [
        Margin(c.op.names[0], c.extreme.what, *c.extreme.bounds.ends, c.extreme.kind.bits)
        for c in every
        if c.extreme.what != "result"
    ]
    margins.sort(key=lambda m: m.share)
    tightest = list({m.op: m for m in margins}.values())  # of each op, the one with least room
    tightest.sort(key=lambda m: -m.share)
    text = f"{ops} ops and {constants} constants, no float among them"
    return Proofs(text, len(every), tuple(tightest[:TIGHTEST]), kernels)
