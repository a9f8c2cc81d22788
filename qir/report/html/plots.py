"""The plots of a report's page, as SVG and HTML written by hand.

By hand, because the colours then follow the reader's light or dark mode, every mark carries its
own tooltip, and no plotting library has to be there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from qir.report.numbers import decibels, micros, part, sqnr_class
from qir.report.rows import OpRow, ReportData

WIDTH, HEIGHT = 1100.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 22.0, 44.0
STEP = 10  # dB from line to line
NAMED = 5  # the worst ops, numbered in the plot and listed beside it
TIMED = 25  # bars of single ops; the rest is one bar


def sqnr_plot(report: ReportData) -> str:
    """SQNR of each op in program order; the worst are numbered."""
    rows = [(i, r) for i, r in enumerate(report.rows) if r.sqnr_db is not None]
    if not rows:
        return '<p class="quiet">SQNR was not measured: that needs calibration data.</p>'
    finite = [r.sqnr_db for _, r in rows if r.sqnr_db is not None and math.isfinite(r.sqnr_db)]
    low = min(0.0, STEP * math.floor(min(finite, default=0.0) / STEP))
    high = max(50.0, STEP * math.ceil(max(finite, default=0.0) / STEP + 0.5))
    scale = _Scale(len(report.rows), low, high)
    parts = [
        f'<div class="wide"><svg class="plot" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        ' aria-label="SQNR of each op">',
        *_grid(scale),
        *(_stem(scale, i, row) for i, row in rows),
        *_numbers(scale, report),
        "</svg></div>",
    ]
    return "".join(parts)


class _Scale:
    """Places of ops and decibels in the plot."""

    def __init__(self, ops: int, low: float, high: float) -> None:
        self.ops, self.low, self.high = ops, low, high

    def x(self, op: float) -> float:
        return LEFT + (op + 0.5) * (WIDTH - LEFT - RIGHT) / max(self.ops, 1)

    def y(self, sqnr_db: float) -> float:
        inside = min(max(sqnr_db, self.low), self.high)
        return TOP + (self.high - inside) * (HEIGHT - TOP - BOTTOM) / (self.high - self.low)


def _grid(scale: _Scale) -> Iterator[str]:
    at = scale.low
    while at <= scale.high:
        y = scale.y(at)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick right" x="{LEFT - 7}" y="{y + 4:.1f}">{at:.0f}</text>'
        at += STEP
    yield f'<text class="tick" x="4" y="{TOP - 9}">dB</text>'
    every = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if scale.ops / s <= 25)
    for i in range(0, scale.ops, every):
        yield f'<text class="tick middle" x="{scale.x(i):.1f}" y="{HEIGHT - 28}">{i}</text>'
    yield (
        f'<text class="tick middle" x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 9}">op, in program'
        " order</text>"
    )


def _stem(scale: _Scale, i: int, row: OpRow) -> str:
    assert row.sqnr_db is not None
    x, y = scale.x(i), scale.y(row.sqnr_db)
    tip = f"{i}: {row.op}, {decibels(row.sqnr_db)} dB\n{row.name}\n{row.loc}"
    style = "exact" if row.sqnr_db == math.inf else sqnr_class(row.sqnr_db)
    return (
        f'<g class="stem {style}" data-row="{i}"><title>{escape(tip)}</title>'
        f'<rect class="catch" x="{x - 4:.1f}" y="{TOP}" width="8"'
        f' height="{HEIGHT - TOP - BOTTOM}"/>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{scale.y(max(scale.low, 0)):.1f}" y2="{y:.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
    )


def worst(report: ReportData) -> tuple[tuple[int, OpRow], ...]:
    """The ops with least SQNR and their places in the program."""
    place = {row.name: i for i, row in enumerate(report.rows)}
    rows = [r for r in report.worst_first if r.sqnr_db is not None and r.sqnr_db < math.inf]
    return tuple((place[row.name], row) for row in rows[:NAMED])


def _numbers(scale: _Scale, report: ReportData) -> Iterator[str]:
    """A number over each of the worst, moved up where two would touch."""
    labels: list[tuple[float, float]] = []
    for rank, (i, row) in enumerate(worst(report), 1):
        assert row.sqnr_db is not None
        x, y = scale.x(i), scale.y(row.sqnr_db) - 9
        while any(abs(x - a) < 12 and abs(y - b) < 13 for a, b in labels):
            y -= 13
        labels.append((x, y))
        yield f'<text class="rank middle" x="{x:.1f}" y="{y:.1f}">{rank}</text>'


def time_bars(report: ReportData) -> str:
    """A bar for each of the slowest ops, the others in one."""
    rows = [(i, r, r.micros) for i, r in enumerate(report.rows) if r.micros is not None]
    if not rows:
        return '<p class="quiet">Not profiled: <code>qir bench</code> times each op.</p>'
    rows.sort(key=lambda t: -t[2])
    bars = [(i, f"{row.op} · {row.name}", time) for i, row, time in rows[:TIMED]]
    rest = rows[TIMED:]
    lines = list(bars)
    if rest:
        lines.append((-1, f"{len(rest)} other ops", sum(t[2] for t in rest)))
    longest = bars[0][2] or 1.0
    bodies = (_bar(i, title, time, longest, report.micros) for i, title, time in lines)
    return f'<div class="bars">{"".join(bodies)}</div>'


def _bar(i: int, title: str, time: float, longest: float, total: float | None) -> str:
    """One bar; the one of op `i` leads to its box, that of many ops (-1) nowhere."""
    row = "" if i < 0 else f' data-row="{i}"'
    return (
        f'<div class="bar"{row}><span class="what">{escape(title)}</span>'
        f'<span class="track"><i style="width:{min(100 * time / longest, 100):.1f}%"></i></span>'
        f'<span class="value">{micros(time)}</span>'
        f'<span class="value">{part(time, total)}</span></div>'
    )
