"""The section about what was changed on request: depth, keys and values."""

from __future__ import annotations

from html import escape

from qir.passes.transform.depth.outcome import Depth
from qir.report.rows import ReportData


def treatments_section(report: ReportData) -> str:
    """Facts and the curve of removals; nothing where nothing was asked for."""
    facts = "".join(f"<li>{escape(line)}</li>" for line in report.treatments())
    if not facts:
        return ""
    curve = _curve(report.depth) if report.depth else ""
    return f"<section><h2>Changed on request</h2><ul>{facts}</ul>{curve}</section>"


def _curve(depth: Depth) -> str:
    if not depth.removed:
        return ""
    rows = "".join(
        f'<tr><td class="n">{i}</td><td>{escape(name)}</td><td class="n">{distance:.4g}</td></tr>'
        for i, (name, distance) in enumerate(depth.removed, 1)
    )
    heads = f"<tr><th>count</th><th>sub-layer</th><th>{escape(depth.distance)}</th></tr>"
    return f"<table><thead>{heads}</thead><tbody>{rows}</tbody></table>"
