"""The report as one self-contained HTML page; its frame, style and script lie beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from qir.report.chosen_bits import ChosenBits, LayerBits, widest
from qir.report.html.bits_plots import bits_plot, front_plot
from qir.report.html.graph import draw
from qir.report.html.plots import sqnr_plot, time_bars, worst
from qir.report.html.treatments import treatments_section
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
    size,
    sqnr_class,
)
from qir.report.rows import Margin, OpRow, PassRow, ReportData, Share

NUMBER = ' class="n"'


def page(report: ReportData) -> str:
    """The page as text; it opens in any browser and loads nothing."""
    fill = {
        "name": escape(report.name),
        "target": escape(report.machine),
        "style": _resource("page.css"),
        "script": _resource("page.js"),
        "details": _details(report),
        "warnings": _warnings(report),
        "cards": _cards(report),
        "worst": _worst(report),
        "bits": _bits(report.chosen),
        "treatments": treatments_section(report),
        "sqnr": sqnr_plot(report),
        "times": time_bars(report),
        "graph": draw(report),
        "ops": _ops(report),
        "kernels": _kernels(report),
        "passes": _passes(report),
        "proofs": _proofs(report),
        "ports": _ports(report),
        "created_by": escape(", ".join(f"{name} {version}" for name, version in report.created_by)),
    }
    return Template(_resource("page.html")).substitute(fill)


def _resource(name: str) -> str:
    return (files("qir.report.html") / name).read_text(encoding="utf-8")


def _details(report: ReportData) -> str:
    """What the script shows of a box that is clicked, as JSON that no text can break out of."""
    facts = [_facts(row) for row in report.rows]
    return json.dumps(facts).replace("<", "\\u003c")


def _facts(row: OpRow) -> list[tuple[str, str]]:
    return [
        ("op", row.op),
        ("value", row.name),
        ("from", row.loc or "-"),
        ("reads", ", ".join(row.reads) or "-"),
        ("shape", shape(row.shape)),
        ("bits", row.bits),
        ("SQNR", decibels(row.sqnr_db, " dB")),
        ("MACs", f"{row.macs:,}"),
        ("weights", f"{row.weight_bytes:,} bytes"),
        ("packed", "-" if row.packed_bytes is None else f"{row.packed_bytes:,} bytes"),
        ("time", micros(row.micros)),
        ("kernel", row.kernel),
    ]


def _warnings(report: ReportData) -> str:
    items = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    listing = f'<ul class="warnings">{items}</ul>\n' if items else ""
    if not report.notes:
        return listing
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    head = f"{len(report.notes)} notes of passes"
    return f"{listing}<details><summary>{head}</summary><ul>{notes}</ul></details>\n"


def _cards(report: ReportData) -> str:
    cards = [
        (str(len(report.rows)), "ops"),
        (count(report.macs), "MACs"),
        (size(report.sizes.weights), "weights"),
        (size(report.sizes.code), "code"),
        (size(report.sizes.workspace), "workspace"),
        (size(report.sizes.flash), "flash"),
        (size(report.sizes.ram), "RAM"),
        (size(report.sizes.total), "artifact"),
    ]
    if report.micros is not None:
        cards.append((micros(report.micros), "all ops"))
    if rows := worst(report):
        cards.append((decibels(rows[0][1].sqnr_db, " dB"), "least SQNR"))
    return "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in cards)


def _worst(report: ReportData) -> str:
    place = Places(report.rows)
    items = "".join(_item(i, row, place) for i, row in worst(report))
    return f'<ol class="worst">{items}</ol>' if items else ""


def _item(i: int, row: OpRow, place: Places) -> str:
    style, sqnr = sqnr_class(row.sqnr_db), decibels(row.sqnr_db, " dB")
    label = f"{escape(row.op)} <code>{escape(row.name)}</code> <span>{escape(place.of(row))}</span>"
    return f'<li data-row="{i}"><b class="{style}">{sqnr}</b> {label}</li>'


def _table(head: Sequence[str], body: Iterable[str], style: str = "") -> str:
    """Columns whose head ends in > hold numbers."""
    heads = "".join(
        f"<th{NUMBER if h.endswith('>') else ''}>{escape(h.rstrip('>'))}</th>" for h in head
    )
    return (
        f'<div class="wide"><table class="{style}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, sort_by: float | None = None) -> str:
    if sort_by is None:
        return f"<td>{escape(text)}</td>"
    return f'<td{NUMBER} data-by="{sort_by!r}">{escape(text)}</td>'


OPS = (
    "#>", "SQNR dB>", "op", "value", "bits", "shape", "MACs>", "weights>", "packed>", "time>",
    "kernel", "from",
)  # fmt: skip
PASSES = ("#>", "pass", "claim", "rewrites>", "ops before>", "ops after>", "seconds>", "measured>")
MARGINS = ("op", "intermediate", "least>", "greatest>", "bits needed>", "bits>", "used>")


def _ops(report: ReportData) -> str:
    at, place = {row.name: i for i, row in enumerate(report.rows)}, Places(report.rows)
    cells = (_op(at[row.name], row, place) for row in report.worst_first)
    return _table(OPS, cells, "sortable")


def _op(i: int, row: OpRow, place: Places) -> str:
    sqnr = 1e9 if row.sqnr_db is None else max(min(row.sqnr_db, 1e8), -1e8)
    style, text = sqnr_class(row.sqnr_db), decibels(row.sqnr_db)
    cells = [
        _cell(str(i), i),
        f'<td class="n {style}" data-by="{sqnr!r}"><b>{text}</b></td>',
        *map(_cell, (row.op, row.name, row.bits, shape(row.shape))),
        _cell(count(row.macs), row.macs),
        _cell(size(row.weight_bytes), row.weight_bytes),
        _cell(packed(row), row.packed_bytes or 0),
        _cell(micros(row.micros), row.micros or 0.0),
        *map(_cell, (row.kernel, place.of(row))),
    ]
    return f'<tr data-row="{i}">{"".join(cells)}</tr>'


LAYERS = ("layer", "bits", "weights>")


def _bits(choice: ChosenBits | None) -> str:
    """The section about mixed precision, nothing where bits were not chosen."""
    if choice is None:
        return ""
    limits = {m.of: m.value for m in choice.limits}
    costs = ", ".join(f"{m.of} {m.value:,.0f} of {limits[m.of]:,.0f}"
                     for m in choice.used if m.of in limits)  # fmt: skip
    head = (
        f'<section id="bits"><h2>Bits of each layer</h2><p class="quiet">Requested:'
        f" {escape(choice.request)}; used: {escape(costs)};"
        f" {choice.average_bits:.2f} bits a weight. Losses are {escape(choice.measure)}.</p>"
    )
    plots = f"{bits_plot(choice)}<h3>The front of loss and cost</h3>{front_plot(choice)}"
    agreement = ""
    if choice.agreement:
        pairs = (_row(_cell(m.of), _cell(f"{m.value:.2f}", m.value)) for m in choice.agreement)
        agreement = "<h3>Agreement of the measures</h3>" + _table(
            ("measures", "rank correlation>"), pairs, "sortable"
        )
    return f"{head}{plots}{_layers(choice)}{agreement}</section>"


def _layers(choice: ChosenBits) -> str:
    first = choice.layers[0] if choice.layers else None
    groups = [] if first is None else [
        *(f"loss {m.of}>" for m in widest(choice, "losses")),
        *(f"us {m.of}>" for m in widest(choice, "micros")),
        *(f"{m.of}>" for m in widest(choice, "measures")),
    ]  # fmt: skip
    return _table(
        (*LAYERS, *groups), (_layer(layer, choice) for layer in choice.layers), "sortable"
    )


def _layer(layer: LayerBits, choice: ChosenBits) -> str:
    cells = [
        _cell(layer.layer),
        _cell(layer.bits),
        _cell(count(layer.parameters), layer.parameters),
    ]
    for kind in ("losses", "micros", "measures"):
        values = {m.of: m.value for m in getattr(layer, kind)}
        for m in widest(choice, kind):
            value = values.get(m.of)
            cells.append(_cell("-") if value is None else _cell(f"{value:.3g}", value))
    return _row(*cells)


def _kernels(report: ReportData) -> str:
    return _table(KERNELS, (_share(share, report) for share in report.shares))


def _share(s: Share, report: ReportData) -> str:
    return _row(
        _cell(s.kernel),
        _cell(str(s.calls), s.calls),
        _cell(count(s.macs), s.macs),
        _cell(part(s.macs, report.macs), s.macs),
        _cell(size(s.weight_bytes), s.weight_bytes),
        _cell(micros(s.micros), s.micros or 0.0),
        _cell(part(s.micros or 0.0, report.micros), s.micros or 0.0),
    )


def _passes(report: ReportData) -> str:
    if not report.passes:
        return '<p class="quiet">No passes on record.</p>'
    return _table(PASSES, (_pass(i, p) for i, p in enumerate(report.passes)))


def _pass(i: int, p: PassRow) -> str:
    return _row(
        _cell(str(i), i),
        _cell(p.name),
        _cell(p.claim),
        _cell(str(p.rewrites), p.rewrites),
        _cell(str(p.ops_before), p.ops_before),
        _cell(str(p.ops_after), p.ops_after),
        _cell("-" if p.seconds is None else f"{p.seconds:.3f}", p.seconds or 0.0),
        _cell("-" if p.error is None else f"{p.error:.2g}", p.error or 0.0),
    )


def _proofs(report: ReportData) -> str:
    proofs = report.proofs
    entries = (
        ("Integer only", proofs.integer_only),
        ("Kernels", proofs.kernels),
        ("No overflow", f"{proofs.overflow_claims:,} intermediates stay within their bits"),
        ("Memory", memory(report.sizes)),
    )
    listed = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in entries)
    if not proofs.tightest:
        return f"<dl>{listed}</dl>"
    return f"<dl>{listed}</dl><h3>Least room</h3>" + _table(MARGINS, map(_margin, proofs.tightest))


def _margin(m: Margin) -> str:
    return _row(
        _cell(m.op),
        _cell(m.what),
        _cell(f"{m.low:,}", float(m.low)),
        _cell(f"{m.high:,}", float(m.high)),
        _cell(str(m.bits_needed), m.bits_needed),
        _cell(str(m.bits), m.bits),
        _cell(part(m.share, 1.0), m.share),
    )


def _ports(report: ReportData) -> str:
    ports = _table(PORTS, (_row(*map(_cell, cells)) for cells in port_cells(report)))
    if not report.entries:
        return ports
    entries = _table(ENTRIES, (_row(*map(_cell, cells)) for cells in entry_cells(report)))
    agreement = report.agreement
    logits = f"<p>Logits {escape(agreement_text(agreement))}.</p>" if agreement is not None else ""
    return f"{entries}{logits}<h3>Of {escape(report.entries[0].name)}</h3>{ports}"
