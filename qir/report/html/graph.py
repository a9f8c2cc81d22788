"""The graph of a report as inline SVG: a box for each op, coloured by its SQNR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import networkx as nx

from qir.report.html.placement import Placement, place
from qir.report.numbers import count, decibels, meaning, micros, shape, size, sqnr_class
from qir.report.rows import OpRow, Port, ReportData

BOX = (216.0, 62.0)
PILL = (216.0, 40.0)
PITCH = 62.0 + 34.0  # from layer to layer: a box, and room for the edges to bend
MARGIN = 16.0


@dataclass(frozen=True)
class Node:
    """A box: what stands in it, and how it is styled. `row` is its place in report.rows."""

    key: str
    title: str
    right: str
    lines: tuple[str, ...]
    style: str
    tip: str
    row: int | None = None

    @property
    def extent(self) -> tuple[float, float]:
        return BOX if self.row is not None else PILL


def draw(report: ReportData) -> str:
    """The whole graph, inputs at the top; each op a <g class="node" data-row="its row">."""
    nodes = {node.key: node for node in _nodes(report)}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(_edges(report))
    placement = place(graph, {key: node.extent[0] for key, node in nodes.items()})
    width, height = placement.width + 2 * MARGIN, placement.layers * PITCH + 2 * MARGIN
    parts = [
        f'<svg id="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" height="{height:.0f}" role="img" aria-label="graph of'
        f' {escape(report.name, True)}">',
        *(_edge(placement, nodes, a, b) for a, b in graph.edges),
        *(_box(placement, node) for node in nodes.values()),
        "</svg>",
    ]
    return "\n".join(parts)


def _nodes(report: ReportData) -> Iterator[Node]:
    for port in report.inputs:
        yield _port(f"in:{port.value}", "input", port)
    for i, row in enumerate(report.rows):
        time = micros(row.micros) if row.micros is not None else ""
        yield Node(
            key=f"op:{row.name}",
            title=row.op,
            right=decibels(row.sqnr_db) if row.sqnr_db is not None else "",
            lines=(f"{shape(row.shape)}|{time}", f"{row.bits}|"),
            style=sqnr_class(row.sqnr_db),
            tip=_tip(row),
            row=i,
        )
    for port in report.outputs:
        yield _port(f"out:{port.value}:{port.name}", "output", port)


def _port(key: str, way: str, port: Port) -> Node:
    lines = (f"{shape(port.shape)}|{port.storage}",)
    title = way if port.name == way else f"{way} {port.name}"
    return Node(key, title, "", lines, "port", f"{port.name}\n{meaning(port)}")


def _tip(row: OpRow) -> str:
    facts = [row.name, row.loc, f"kernel {row.kernel}", f"{count(row.macs)} MACs"]
    facts.append(f"{size(row.weight_bytes)} of weights")
    return "\n".join(fact for fact in facts if fact)


def _edges(report: ReportData) -> Iterator[tuple[str, str]]:
    sources = {port.value: f"in:{port.value}" for port in report.inputs}
    for row in report.rows:
        yield from ((sources[name], f"op:{row.name}") for name in row.reads if name in sources)
        sources[row.name] = f"op:{row.name}"
    for port in report.outputs:
        if port.value in sources:
            yield sources[port.value], f"out:{port.value}:{port.name}"


def _y(layer: int) -> float:
    """The middle of a layer."""
    return MARGIN + (layer + 0.5) * PITCH


def _edge(placement: Placement, nodes: Mapping[str, Node], a: str, b: str) -> str:
    """A line from the bottom of `a` to the top of `b`, upright where it passes a layer."""
    (xa, la), (xb, lb) = placement.centres[a], placement.centres[b]
    half = BOX[1] / 2
    points = [(xa, _y(la) + nodes[a].extent[1] / 2)]
    for x, layer in placement.routes[a, b]:
        points += [(x, _y(layer) - half), (x, _y(layer) + half)]
    points.append((xb, _y(lb) - nodes[b].extent[1] / 2))
    path = [f"M{points[0][0] + MARGIN:.1f} {points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        path.append(
            f"L{x1 + MARGIN:.1f} {y1:.1f}"
            if x0 == x1
            else f"C{x0 + MARGIN:.1f} {middle:.1f} {x1 + MARGIN:.1f} {middle:.1f}"
            f" {x1 + MARGIN:.1f} {y1:.1f}"
        )
    ends = " ".join(f'data-{end}="{n.row}"' for end, n in (("a", nodes[a]), ("b", nodes[b])))
    return f'<path class="edge" {ends} d="{" ".join(path)}"/>'


def _box(placement: Placement, node: Node) -> str:
    x, layer = placement.centres[node.key]
    width, height = node.extent
    left, top = x + MARGIN - width / 2, _y(layer) - height / 2
    row = "" if node.row is None else f' data-row="{node.row}" tabindex="0"'
    parts = [
        f'<g class="node {node.style}"{row} transform="translate({left:.1f} {top:.1f})">',
        f"<title>{escape(node.tip)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="{6 if row else 20}"/>',
    ]
    if node.row is not None:
        parts.append(f'<rect class="mark" width="5" height="{height:.0f}" rx="2.5"/>')
    parts += _text(17, "title", node.title, 22 if node.right else 30)
    parts += _text(17, "sqnr", "", 8, node.right)
    for i, line in enumerate(node.lines):
        left_text, _, right_text = line.partition("|")
        parts += _text(35 + 17 * i if row else 33, "fact", left_text, 30, right_text)
    return "".join([*parts, "</g>"])


def _text(y: int, style: str, left: str, room: int, right: str = "") -> Iterator[str]:
    """A text at the left and one at the right of a line; the left one is cut to `room` letters."""
    if left:
        line = left if len(left) <= room else f"{left[: room - 1]}…"
        yield f'<text class="{style}" x="13" y="{y}">{escape(line)}</text>'
    if right:
        yield f'<text class="{style} right" x="{BOX[0] - 9:.0f}" y="{y}">{escape(right)}</text>'
