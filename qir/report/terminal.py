"""The report as tables on a terminal, or as plain text without colour."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Container, Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from qir.report.chosen_bits import ChosenBits, widest
from qir.report.rows import OpRow, Port, Share, Sizes

if TYPE_CHECKING:
    from qir.report.model import Report

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
    head = Text.assemble((report.name, "bold"), " for ", (report.machine, "bold"))
    yield Text.assemble(head, ": ", summary(report))
    yield _ports(report)
    if report.chosen is not None:
        yield _bits(report.chosen, columns)
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
        facts.append(f"least SQNR {decibels(worst.sqnr_db)} dB at {short(worst.name)}")
    return ", ".join(facts)


def table(title: str, *columns: str) -> Table:
    """Columns that end in > are right-aligned numbers."""
    made = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD
    )
    for column in columns:
        justify: JustifyMethod = "right" if column.endswith(">") else "left"
        made.add_column(column.rstrip(">"), justify=justify, no_wrap=True, overflow="ellipsis")
    return made


def cut(made: Table, columns: int, *names: str) -> Table:
    """The table with the columns called `names` narrowed until all the others are whole."""
    widths = [
        max(cell_len(str(column.header)), *(cell_len(str(c)) for c in column.cells), 0)
        for column in made.columns
    ]
    flexible = [i for i, column in enumerate(made.columns) if column.header in names]
    flexible.sort(key=lambda i: widths[i])
    whole = sum(width for i, width in enumerate(widths) if i not in flexible)
    room = columns - 3 * len(widths) - 1 - whole
    for done, i in enumerate(flexible):
        made.columns[i].max_width = width = max(room // (len(flexible) - done), LEAST_CUT)
        room -= min(width, widths[i])
    return made


def _ports(report: Report) -> Table:
    found = table("Inputs and outputs", "", "name", "shape", "stored", "real")
    both = (("in", report.inputs), ("out", report.outputs))
    for way, ports in both:
        for port in ports:
            found.add_row(way, Text(port.name), shape(port.shape), port.storage, meaning(port))
    return found


def _bits(chosen: ChosenBits, columns: int) -> Table:
    """The bits of each layer, with the loss of each choice and its time where measured."""
    losses, times = widest(chosen, "losses"), widest(chosen, "micros")
    heads = [*(f"loss {m.of}>" for m in losses), *(f"us {m.of}>" for m in times)]
    found = table(
        f"Bits, {chosen.average_bits:.2f} a weight, within {chosen.request}",
        "layer", "bits", "weights>", *heads,
    )  # fmt: skip
    for layer in chosen.layers:
        have = [{m.of: m.value for m in kind} for kind in (layer.losses, layer.micros)]
        cells = [
            f"{held[m.of]:.3g}" if m.of in held else "-"
            for held, heads_ in zip(have, (losses, times), strict=True)
            for m in heads_
        ]
        found.add_row(Text(layer.layer), layer.bits, count(layer.parameters), *cells)
    return cut(found, columns, "layer")


def _ops(report: Report, columns: int) -> Table:
    """Numbers, bits and shapes whole; the places in the model, and the kernels, as room allows."""
    rows = report.worst_first
    drop = [] if report.micros is not None else ["time>"]
    drop += [] if any(row.packed_bytes is not None for row in rows) else ["packed>"]
    drop += [] if columns >= KERNEL_COLUMNS else ["kernel"]
    found = table(
        f"Ops, worst SQNR first ({len(rows)})", *(head for head in OPS if head not in drop)
    )
    place = Places(rows)
    for row in rows[:SHOWN]:
        found.add_row(*_op_cells(row, place, drop))
    if len(rows) > SHOWN:
        found.caption = f"... and {len(rows) - SHOWN} more: the page and the JSON hold all"
    return cut(found, columns, "kernel", "from")


class Places:
    """Where ops come from, without the words that every place begins with ("model.onnx node")."""

    def __init__(self, rows: Iterable[OpRow]) -> None:
        starts = [part.split(" ")[:-1] for row in rows for part in row.loc.split(" + ") if part]
        same = takewhile(lambda words: len(set(words)) == 1, zip(*starts, strict=False))
        self.shared = " ".join([*(words[0] for words in same), ""]) if len(starts) > 1 else ""

    def of(self, row: OpRow) -> str:
        """The place of `row`, its value's own name where there is none."""
        parts = (part.removeprefix(self.shared) for part in row.loc.split(" + "))
        return " + ".join(parts) if row.loc else f"%{row.name}"


OPS = ("SQNR dB>", "op", "bits", "shape", "MACs>", "weights>", "packed>", "time>", "kernel", "from")


def _op_cells(row: OpRow, place: Places, drop: Container[str]) -> list[Text]:
    every = (
        Text(decibels(row.sqnr_db), STYLES[sqnr_class(row.sqnr_db)]),
        Text(row.op), Text(row.bits), Text(shape(row.shape)), Text(count(row.macs)),
        Text(size(row.weight_bytes)), Text(packed(row)), Text(micros(row.micros)), Text(row.kernel),
        Text(place.of(row)),
    )  # fmt: skip
    return [cell for head, cell in zip(OPS, every, strict=True) if head not in drop]


def _shares(report: Report) -> Table:
    is_timed = report.micros is not None
    time = ("time>", "of all>") if is_timed else ()
    found = table("Kernels", "kernel", "calls>", "MACs>", "of all>", "weights>", *time)
    every = [*report.shares, Share.of("all", report.rows)]
    for at, share in enumerate(every):
        spent = [micros(share.micros), part(share.micros or 0, report.micros)] if is_timed else []
        found.add_row(
            Text(share.kernel), str(share.calls), count(share.macs), part(share.macs, report.macs),
            size(share.weight_bytes), *spent, end_section=at == len(every) - 2,
        )  # fmt: skip
    return found


def _passes(report: Report) -> Table:
    found = table("Passes", "pass", "claim", "rewrites>", "ops>", "seconds>", "measured>")
    for p in report.passes:
        seconds = "" if p.seconds is None else f"{p.seconds:.3f}"
        error = "" if p.error is None else f"{p.error:.2g}"
        found.add_row(
            Text(p.name),
            Text(p.claim),
            str(p.rewrites),
            f"{p.ops_before} -> {p.ops_after}",
            seconds,
            error,
        )
    return found


def _proofs(report: Report) -> Table:
    found = table("Proofs and sizes", "", "")
    found.show_header = False
    proofs, sizes = report.proofs, report.sizes
    found.columns[1].no_wrap, found.columns[1].overflow = False, "fold"
    found.add_row("integer only", Text(proofs.integer_only))
    found.add_row("kernels", Text(proofs.kernels))
    found.add_row("no overflow", f"{proofs.overflow_claims} intermediates stay within their bits")
    for m in proofs.tightest[:3]:
        reach = f"[{m.low:,}, {m.high:,}], {m.bits_needed} of {m.bits} bits"
        found.add_row("  tightest", Text(f"{short(m.op)}, {m.what}: {reach}"))
    found.add_section()
    found.add_row("memory", memory(sizes))
    found.add_row(
        "sizes",
        f"weights {size(sizes.weights)}, code {size(sizes.code)},"
        f" workspace {size(sizes.workspace)}; artifact {size(sizes.total)}",
    )
    versions = ", ".join(f"{name} {version}" for name, version in report.created_by)
    found.add_row("created by", Text(versions))
    return found


def short(name: str, most: int = 48) -> str:
    """A name of at most so many letters: its two ends say more than its start alone."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


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


def packed(row: OpRow) -> str:
    """The bytes of a kernel's constants in the artifact, as text."""
    return "-" if row.packed_bytes is None else size(row.packed_bytes)


def memory(sizes: Sizes) -> str:
    """What a machine needs to run the program, in exact bytes."""
    return (
        f"{sizes.flash:,} bytes of flash, {sizes.ram:,} of RAM beside the stack; inputs"
        f" {sizes.inputs:,}, outputs {sizes.outputs:,}"
    )


def micros(time: float | None) -> str:
    """Microseconds as text, milliseconds from 10,000 on."""
    if time is None:
        return "-"
    return f"{time / 1000:.1f} ms" if time >= 10_000 else f"{time:.1f} µs"


def part(some: float, whole: float | None) -> str:
    return f"{100 * some / whole:.1f} %" if whole else "-"
