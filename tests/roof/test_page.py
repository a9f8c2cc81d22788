"""The page: self-contained, safe against any name, and nothing lies on anything else."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.report.html.graph import BOX, draw
from qir.report.html.placement import GAP, monotone, place
from qir.report.model import Report
from tests.roof.reports import deep, report, row, small, wide

VOID = {"meta"}
LARGE = [deep(7), deep(66), wide(4, 9), wide(9, 3)]


class Page(HTMLParser):
    """Every element with its attributes; elements that never close are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def classes(self) -> list[str | None]:
        return [attributes["class"] for _, attributes in self.found if "class" in attributes]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize("one", [small(), small().without_times(), *LARGE], ids=lambda r: r.name)
def test_the_page_is_well_formed_and_loads_nothing(one: Report) -> None:
    text = one.html()
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.found}
    assert all("src" not in attributes for _, attributes in page.found)
    assert all((a["href"] or "").startswith("#") for a in page.of("a"))
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "@import" not in text and "url(" not in text


def test_no_name_can_break_out() -> None:
    evil = "</script><script>alert(1)</script>\"'&<!--"
    rows = (row(evil, ("x",), 10.0, op=evil, loc=evil, kernel=evil, bits=evil, micros=1.0),)
    one = replace(report(rows, evil), target=evil, created_by=((evil, evil),))
    page = Page(one.html())
    assert len(page.of("script")) == 2
    assert "alert(1)<" not in one.html()


def test_warnings_are_the_first_thing_on_the_page() -> None:
    assert "warnings" not in Page(small().html()).classes()
    warned = replace(small(), warnings=("concat %c: <b> shares a scale", "second"))
    page = Page(warned.html())
    order = page.classes()
    assert order.index("warnings") < order.index("cards")
    assert "<li>concat %c: &lt;b&gt; shares a scale</li><li>second</li>" in warned.html()


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of every node."""
    pattern = (
        r'translate\(([\d.]+) ([\d.]+)\)"><title>[^<]*</title><rect width="(\d+)" height="(\d+)"'
    )
    matches = [tuple(map(float, m)) for m in re.findall(pattern, svg)]
    return [(x, y, x + w, y + h) for x, y, w, h in matches]


@pytest.mark.parametrize("one", [small(), *LARGE], ids=lambda r: r.name)
def test_boxes_do_not_overlap_and_lie_inside(one: Report) -> None:
    svg = draw(one)
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    found = boxes(svg)
    assert len(found) == len(one.rows) + len(one.inputs) + len(one.outputs)
    for a, b in combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(x0 >= 0 and x1 <= width + 1 and y0 >= 0 and y1 <= height for x0, y0, x1, y1 in found)


@pytest.mark.parametrize("one", [small(), *LARGE], ids=lambda r: r.name)
def test_edges_pass_no_box(one: Report) -> None:
    """Where an edge runs through a layer (its upright parts), no box of that layer is there."""
    svg = draw(one)
    found = boxes(svg)
    for path in re.findall(r'class="edge"[^>]* d="([^"]*)"', svg):
        points = [tuple(map(float, p)) for p in re.findall(r"([\d.]+) ([\d.]+)(?= [LC]|$)", path)]
        for (x0, y0), (x1, y1) in pairwise(points):
            upright = x0 == x1
            inside = [b for b in found if b[0] < x0 < b[2] and y0 < b[1] + 1 and b[3] - 1 < y1]
            assert not (upright and inside)


def test_every_op_is_drawn_with_its_colour_and_edges() -> None:
    svg = draw(small())
    assert [f'data-row="{i}"' in svg for i in range(5)] == [True] * 5
    for style in ("node good", "node bad", "node fair", "node none", "node port"):
        assert f'class="{style}"' in svg
    assert svg.count('class="edge"') == 7


def test_an_op_that_reads_a_later_one_does_not_hang_the_page() -> None:
    rows = (row("a", ("b",)), row("b", ("a",)))
    assert draw(report(rows)).count('class="edge"') == 2  # a -> b -> output


def test_what_was_not_measured_is_said() -> None:
    text = report((row("a", ("x",), None),)).html()
    assert "SQNR was not measured" in text and "Not profiled" in text
    assert "No passes on record" in replace(small(), passes=()).html()


def test_an_op_that_is_all_error_is_the_worst() -> None:
    one = report((row("a", ("x",), float("-inf")), row("b", ("a",), 30.0)))
    assert '<b class="bad">-inf dB</b>' in one.html() and 'class="stem bad"' in one.html()
    assert Report.from_json(one.to_json()) == one


def test_worst_numbers_do_not_touch() -> None:
    rows = tuple(row(f"r{i}", ("x",), 20.0) for i in range(200))
    marks = re.findall(r'class="rank middle" x="([\d.]+)" y="([\d.-]+)"', report(rows).html())
    places = [(float(x), float(y)) for x, y in marks]
    assert len(places) == 5
    assert all(abs(a[0] - b[0]) >= 12 or abs(a[1] - b[1]) >= 13 for a, b in combinations(places, 2))


@st.composite
def dags(draw_: st.DrawFn) -> nx.DiGraph:
    n = draw_(st.integers(1, 25))
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(f"n{i}" for i in range(n))
    pairs = draw_(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=50))
    graph.add_edges_from((f"n{min(p)}", f"n{max(p)}") for p in pairs if p[0] != p[1])
    return graph


@settings(deadline=None)
@given(dags())
def test_placement_of_any_graph(graph: nx.DiGraph) -> None:
    placed = place(graph, dict.fromkeys(graph, BOX[0]))
    assert set(placed.centres) == set(graph)
    for a, b in graph.edges:
        assert placed.centres[a][1] < placed.centres[b][1]
        passed = range(placed.centres[a][1] + 1, placed.centres[b][1])
        assert [layer for _, layer in placed.routes[a, b]] == list(passed)
    for a, b in combinations(graph, 2):
        (xa, la), (xb, lb) = placed.centres[a], placed.centres[b]
        assert la != lb or abs(xa - xb) >= BOX[0] + GAP - 1e-3
    assert all(BOX[0] / 2 <= x + 1e-3 and x <= placed.width for x, _ in placed.centres.values())


@given(st.lists(st.tuples(st.integers(-99, 99), st.integers(1, 9)), min_size=1, max_size=12))
def test_monotone_is_sorted_and_keeps_the_mean(pairs: list[tuple[int, int]]) -> None:
    wished, weights = [float(v) for v, _ in pairs], [float(w) for _, w in pairs]
    found = monotone(wished, weights)
    assert all(a <= b + 1e-9 for a, b in pairwise(found))
    moved = sum(w * (f - v) for f, v, w in zip(found, wished, weights, strict=True))
    assert moved == pytest.approx(0, abs=1e-6)
    assert monotone(sorted(wished), weights) == sorted(wished)
