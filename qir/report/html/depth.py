"""The section about what was left out of a model, or runs side by side."""

from __future__ import annotations

from html import escape

from qir.passes.transform.depth.outcome import Depth


def depth_section(depth: Depth | None) -> str:
    """Facts and the curve of removals; nothing where nothing was asked for."""
    if depth is None:
        return ""
    facts = "".join(f"<li>{escape(line)}</li>" for line in depth.lines())
    return f"<section><h2>Depth</h2><ul>{facts}</ul>{_curve(depth)}</section>"


def _curve(depth: Depth) -> str:
    if not depth.removed:
        return ""
    rows = "".join(
        f'<tr><td class="n">{i}</td><td>{escape(name)}</td><td class="n">{distance:.4g}</td></tr>'
        for i, (name, distance) in enumerate(depth.removed, 1)
    )
    heads = f"<tr><th>count</th><th>sub-layer</th><th>{escape(depth.distance)}</th></tr>"
    return f"<table><thead>{heads}</thead><tbody>{rows}</tbody></table>"
