"""The report as tables on a terminal, or as plain text without colour."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Container, Iterator

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from qir.report import OpRow, Port, Report, Share

SHOWN = 120  # op rows on a terminal; the page and the JSON hold all
LEAST_COLUMNS = 120  # of plain text: a narrower pipe would cut the names
LEAST_CUT = 12  # columns of a name that is cut
KERNEL_COLUMNS = 150  # from which the ops' table has room for the kernels' names

# SQNR from which a value is in each class. 8-bit values over their whole range give about 50 dB
# (6.02 * 8 + 1.76), and 6 dB are one bit; under 20 dB a tenth of the amplitude is error.
CLASSES = ((40.0, "good"), (30.0, "fair"), (20.0, "low"), (-math.inf, "bad"))
STYLES = {"good": "green", "fair": "cyan", "low": "yellow", "bad": "bold red", "none": "dim"}


def sqnr_class(sqnr_db: float | None) -> str:
    """good, fair, low or bad; none when it was not measured."""
    if sqnr_db is None:
        return "none"
    return next(name for least, name in CLASSES if sqnr_db >= least)


def tables(report: Report, columns: int = LEAST_COLUMNS) -> Iterator[RenderableType]:
    """What a terminal of so many columns shows, top to bottom."""
    head = Text.assemble((report.name, "bold"), " for ", (report.target, "bold"))
    yield Text.assemble(head, ": ", summary(report))
    yield _ports(report)
    yield _ops(report, columns)
    yield _shares(report)
    if report.passes:
        yield _passes(report)
    yield _proofs(report)


def plain(report: Report) -> str:
    """The same tables as text, as wide as the terminal, without colour."""
    columns = max(shutil.get_terminal_size((LEAST_COLUMNS, 24)).columns, LEAST_COLUMNS)
    console = Console(file=io.StringIO(), width=columns, color_system=None, highlight=False)
    console.print(report)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def summary(report: Report) -> str:
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
        facts.append(f"least SQNR {decibels(worst.sqnr_db)} dB at {worst.name}")
    return ", ".join(facts)


def _table(title: str, *columns: str) -> Table:
    """Columns that end in > are right-aligned numbers."""
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD
    )
    for column in columns:
        justify: JustifyMethod = "right" if column.endswith(">") else "left"
        table.add_column(column.rstrip(">"), justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def _ports(report: Report) -> Table:
    table = _table("Inputs and outputs", "", "name", "shape", "stored", "real")
    both = (("in", report.inputs), ("out", report.outputs))
    for way, ports in both:
        for port in ports:
            table.add_row(way, Text(port.name), shape(port.shape), port.storage, meaning(port))
    return table


def _ops(report: Report, columns: int) -> Table:
    """Numbers, bits and shapes whole; the places in the model, and the kernels, as room allows."""
    rows = report.worst_first
    drop = [] if report.micros is not None else ["time>"]
    drop += [] if columns >= KERNEL_COLUMNS else ["kernel"]
    cells = [_op_cells(row, drop) for row in rows[:SHOWN]]
    heads = [head for head in OPS if head not in drop]
    table = _table(f"Ops, worst SQNR first ({len(rows)})", *heads)
    for line in cells:
        table.add_row(*line)
    widths = [max(len(h.rstrip(">")), *(cell_len(str(c)) for c in column))
              for h, column in zip(heads, zip(*cells, strict=True), strict=False)]  # fmt: skip
    cut = [i for i, head in enumerate(heads) if head in ("kernel", "from")]
    room = columns - 3 * len(heads) - 1 - sum(w for i, w in enumerate(widths) if i not in cut)
    for i in cut:
        table.columns[i].max_width = max(room // len(cut), LEAST_CUT)
    if len(rows) > SHOWN:
        table.caption = f"... and {len(rows) - SHOWN} more: the page and the JSON hold all"
    return table


OPS = ("SQNR dB>", "op", "bits", "shape", "MACs>", "weights>", "time>", "kernel", "from")


def _op_cells(row: OpRow, drop: Container[str]) -> list[Text]:
    """`from` is the place in the model, the value's own name where there is none."""
    every = (
        Text(decibels(row.sqnr_db), STYLES[sqnr_class(row.sqnr_db)]),
        Text(row.op), Text(row.bits), Text(shape(row.shape)), Text(count(row.macs)),
        Text(size(row.weight_bytes)), Text(micros(row.micros)), Text(row.kernel),
        Text(row.loc or f"%{row.name}"),
    )  # fmt: skip
    return [cell for head, cell in zip(OPS, every, strict=True) if head not in drop]


def _shares(report: Report) -> Table:
    is_timed = report.micros is not None
    time = ("time>", "of all>") if is_timed else ()
    table = _table("Kernels", "kernel", "calls>", "MACs>", "of all>", "weights>", *time)
    every = [*report.shares, Share.of("all", report.rows)]
    for at, share in enumerate(every):
        spent = [micros(share.micros), part(share.micros or 0, report.micros)] if is_timed else []
        table.add_row(
            Text(share.kernel), str(share.calls), count(share.macs), part(share.macs, report.macs),
            size(share.weight_bytes), *spent, end_section=at == len(every) - 2,
        )  # fmt: skip
    return table


def _passes(report: Report) -> Table:
    table = _table("Passes", "pass", "claim", "rewrites>", "ops>", "seconds>", "measured>")
    for p in report.passes:
        seconds = "" if p.seconds is None else f"{p.seconds:.3f}"
        error = "" if p.error is None else f"{p.error:.2g}"
        table.add_row(
            p.name, p.claim, str(p.rewrites), f"{p.ops_before} -> {p.ops_after}", seconds, error
        )
    return table


def _proofs(report: Report) -> Table:
    table = _table("Proofs and sizes", "", "")
    table.show_header = False
    proofs, sizes = report.proofs, report.sizes
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    table.add_row("integer only", proofs.integer_only)
    table.add_row("kernels", proofs.kernels)
    table.add_row("no overflow", f"{proofs.overflow_claims} intermediates stay within their bits")
    for m in proofs.tightest[:3]:
        table.add_row(
            "  tightest",
            f"{m.op}, {m.what}: [{m.low:,}, {m.high:,}], {m.bits_needed} of {m.bits} bits",
        )
    table.add_section()
    table.add_row(
        "sizes",
        f"weights {size(sizes.weights)}, code {size(sizes.code)},"
        f" workspace {size(sizes.workspace)}; artifact {size(sizes.total)}",
    )
    table.add_row("created by", ", ".join(f"{name} {v}" for name, v in report.created_by))
    return table


def shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def meaning(port: Port) -> str:
    if port.scale is None or port.zero_point is None:
        return ""
    return f"{port.scale:.6g} * (stored - {port.zero_point})".replace("- -", "+ ")


def decibels(sqnr_db: float | None, unit: str = "") -> str:
    if sqnr_db is None:
        return "-"
    return "exact" if math.isinf(sqnr_db) and sqnr_db > 0 else f"{sqnr_db:.1f}{unit}"


def count(n: int) -> str:
    """1234567 -> 1.23 M."""
    for unit, step in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= step:
            return f"{n / step:.3g} {unit}" if n < 1000 * step else f"{n / step:,.0f} {unit}"
    return str(n)


def size(n_bytes: int) -> str:
    """Bytes as text: 1536 -> 1.5 KiB."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    value = float(n_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024 or unit == "GiB":
            break
    return f"{value:.1f} {unit}"


def micros(time: float | None) -> str:
    """Microseconds as text, milliseconds from 10,000 on."""
    if time is None:
        return "-"
    return f"{time / 1000:.1f} ms" if time >= 10_000 else f"{time:.1f} µs"


def part(some: float, whole: float | None) -> str:
    return f"{100 * some / whole:.1f} %" if whole else "-"
