"""The report as tables on a terminal, or as plain text without colour."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from qir.ir.errors import printable
from qir.passes.transform.depth.outcome import Depth
from qir.report.chosen_bits import ChosenBits, widest
from qir.report.numbers import (
    ENTRIES,
    KERNELS,
    PORTS,
    Places,
    agreement_text,
    count,
    decibels,
    entry_cells,
    memory,
    micros,
    packed,
    part,
    port_cells,
    shape,
    short,
    size,
    sqnr_class,
)
from qir.report.rows import OpRow, ReportData, Share
from qir.report.tables import Row, table

SHOWN = 120  # op rows on a terminal; the page and the JSON have all of them
NOTES = 12  # of passes on single values; the page and the JSON have all of them
LEAST_COLUMNS = 120  # of plain text, for a pipe or a file, which have no width of their own
STYLES = {"good": "green", "fair": "cyan", "low": "yellow", "bad": "bold red", "none": "dim"}


def tables(report: ReportData, columns: int = LEAST_COLUMNS) -> Iterator[RenderableType]:
    """The report from top to bottom, for a terminal of that many columns."""
    name, machine = printable(report.name), printable(report.machine)
    head = Text.assemble((name, "bold"), " for ", (machine, "bold"))
    yield Text.assemble(head, ": ", printable(summary(report)))
    for warning in report.warnings:
        yield Text(f"warning: {printable(warning)}", style=STYLES["low"])
    for note in report.notes[:NOTES]:
        yield Text(printable(note), style=STYLES["none"])
    if len(report.notes) > NOTES:
        yield Text(f"and {len(report.notes) - NOTES} more such notes", style=STYLES["none"])
    for line in report.treatments():
        yield Text(printable(line), style=STYLES["fair"])
    if report.entries:
        yield _entries(report, columns)
    if report.agreement is not None:
        yield Text(agreement_text(report.agreement))
    yield _ports(report, columns)
    if report.chosen is not None:
        yield _bits(report.chosen, columns)
    if report.depth is not None and report.depth.removed:
        yield _removed(report.depth, columns)
    yield _ops(report, columns)
    yield _shares(report, columns)
    if report.passes:
        yield _passes(report, columns)
    yield _proofs(report, columns)


def plain(report: ReportData) -> str:
    """The same tables as text, as wide as the terminal and at least LEAST_COLUMNS, no colour."""
    columns = max(shutil.get_terminal_size((LEAST_COLUMNS, 24)).columns, LEAST_COLUMNS)
    console = Console(file=io.StringIO(), width=columns, color_system=None, highlight=False)
    for part_ in tables(report, columns):
        console.print(part_)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def summary(report: ReportData) -> str:
    """One line: ops, MACs, bytes, time, and the worst op."""
    facts = [
        f"{len(report.rows)} ops",
        f"{count(report.macs)} MACs",
        f"{size(report.sizes.weights)} of weights",
    ]
    if report.micros is not None:
        facts.append(micros(report.micros))
    worst = report.worst_first[0] if report.rows else None
    if worst is not None and worst.sqnr_db is not None:
        facts.append(f"least SQNR {decibels(worst.sqnr_db)} dB at {short(worst.name)}")
    return ", ".join(facts)


def _entries(report: ReportData, columns: int) -> Table:
    rows: list[Row] = [tuple(map(Text, cells)) for cells in entry_cells(report)]
    title = f"Entries; all below is of {printable(report.entries[0].name)}"
    return table(title, ENTRIES, rows, columns)


def _ports(report: ReportData, columns: int) -> Table:
    rows: list[Row] = [tuple(map(Text, cells)) for cells in port_cells(report)]
    return table("Inputs and outputs", PORTS, rows, columns, cut=("name",), drop=("real",))


def _removed(depth: Depth, columns: int) -> Table:
    """The curve: the outputs' distance after each sub-layer that is left out."""
    rows: list[Row] = [
        (Text(str(i)), name, f"{distance:.4g}")
        for i, (name, distance) in enumerate(depth.removed, 1)
    ]
    return table("Left out, in order", ("count>", "sub-layer", f"{depth.distance}>"), rows, columns)


def _bits(choice: ChosenBits, columns: int) -> Table:
    """The bits of each layer, with the loss of each choice and its time where measured."""
    losses, times = widest(choice, "losses"), widest(choice, "micros")
    heads = [*(f"loss {m.of}>" for m in losses), *(f"us {m.of}>" for m in times)]
    rows: list[Row] = []
    for layer in choice.layers:
        values = [{m.of: m.value for m in kind} for kind in (layer.losses, layer.micros)]
        cells = [
            f"{row[m.of]:.3g}" if m.of in row else "-"
            for row, measures in zip(values, (losses, times), strict=True)
            for m in measures
        ]
        rows.append((Text(layer.layer), layer.bits, count(layer.parameters), *cells))
    title = f"Bits, {choice.average_bits:.2f} a weight, within {choice.request}"
    return table(
        title,
        ("layer", "bits", "weights>", *heads),
        rows,
        columns,
        cut=("layer",),
        drop=[head.rstrip(">") for head in reversed(heads)],
    )


OPS = ("SQNR dB>", "op", "bits", "shape", "MACs>", "weights>", "packed>", "time>", "kernel", "from")
LEAST_NEEDED = ("kernel", "packed", "shape", "weights", "MACs", "bits")  # dropped in this order


def _ops(report: ReportData, columns: int) -> Table:
    """The ops, worst first; columns that hold nothing in any row are left out."""
    rows = report.worst_first
    has = {
        "time>": report.micros is not None,
        "packed>": any(row.packed_bytes is not None for row in rows),
    }
    heads = [head for head in OPS if has.get(head, True)]
    places = Places(rows)
    result = table(
        f"Ops, worst SQNR first ({len(rows)})",
        heads,
        [_op_cells(row, places, heads) for row in rows[:SHOWN]],
        columns,
        cut=("kernel", "from"),
        drop=LEAST_NEEDED,
    )
    if len(rows) > SHOWN:
        more = f"... and {len(rows) - SHOWN} more: the page and the JSON have all of them"
        result.caption = more if result.caption is None else f"{more}; {result.caption}"
    return result


def _op_cells(row: OpRow, places: Places, heads: Sequence[str]) -> list[Text]:
    every = (
        Text(decibels(row.sqnr_db), STYLES[sqnr_class(row.sqnr_db)]),
        Text(row.op), Text(row.bits), Text(shape(row.shape)), Text(count(row.macs)),
        Text(size(row.weight_bytes)), Text(packed(row)), Text(micros(row.micros)), Text(row.kernel),
        Text(places.of(row)),
    )  # fmt: skip
    return [cell for head, cell in zip(OPS, every, strict=True) if head in heads]


def _shares(report: ReportData, columns: int) -> Table:
    is_timed = report.micros is not None
    every = [*report.shares, Share.of("all", report.rows)]
    rows: list[Row] = []
    for share in every:
        times = [micros(share.micros), part(share.micros or 0, report.micros)] if is_timed else []
        rows.append(
            (
                Text(share.kernel),
                str(share.calls),
                count(share.macs),
                part(share.macs, report.macs),
                size(share.weight_bytes),
                *times,
            )
        )
    return table(
        "Kernels",
        KERNELS if is_timed else KERNELS[:-2],
        rows,
        columns,
        cut=("kernel",),
        drop=("weights",),
        lines_after=(len(every) - 2,),
    )


def _passes(report: ReportData, columns: int) -> Table:
    rows: list[Row] = [
        (
            Text(p.name),
            Text(p.claim),
            str(p.rewrites),
            f"{p.ops_before} -> {p.ops_after}",
            "" if p.seconds is None else f"{p.seconds:.3f}",
            "" if p.error is None else f"{p.error:.2g}",
        )
        for p in report.passes
    ]
    heads = ["pass", "claim", "rewrites>", "ops>", "seconds>", "measured>"]
    if not any(p.error is not None for p in report.passes):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return table("Passes", heads, rows, columns, cut=("claim",), drop=("ops", "claim"))


def _proofs(report: ReportData, columns: int) -> Table:
    proofs, sizes = report.proofs, report.sizes
    proven = [
        ("integer only", Text(proofs.integer_only)),
        ("kernels", Text(proofs.kernels)),
        ("no overflow", Text(f"{proofs.overflow_claims} intermediates stay within their bits")),
    ]
    for m in proofs.tightest[:3]:
        reach = f"[{m.low:,}, {m.high:,}], {m.bits_needed} of {m.bits} bits"
        proven.append(("  tightest", Text(f"{short(m.op)}, {m.what}: {reach}")))
    bytes_of = (
        f"weights {size(sizes.weights)}, code {size(sizes.code)},"
        f" workspace {size(sizes.workspace)}; artifact {size(sizes.total)}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in report.created_by)
    facts = [
        ("memory", Text(memory(sizes))),
        ("sizes", Text(bytes_of)),
        ("created by", Text(versions)),
    ]
    return table(
        "Proofs and sizes",
        ("", " "),
        [*proven, *facts],
        columns,
        wrap=(" ",),
        lines_after=(len(proven) - 1,),
    )
