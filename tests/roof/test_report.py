"""The report: exact as JSON, worst first on the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qir.ir.errors import ArtifactError
from qir.report.model import Report
from qir.report.numbers import count, decibels, micros, size, sqnr_class
from qir.report.rows import MOST_DECIBELS, Margin, OpRow, Share
from tests.roof.reports import report, row, small

texts = st.text(max_size=30)
sizes = st.integers(0, 1 << 62)
times = st.none() | st.floats(0, 1e12)
rows = st.builds(
    OpRow,
    *[texts] * 5,
    st.lists(st.integers(1, 1 << 30), max_size=5).map(tuple),
    sizes,
    sizes,
    st.none() | st.sampled_from([math.inf, -math.inf]) | st.floats(-MOST_DECIBELS, MOST_DECIBELS),
    times,
    st.lists(texts, max_size=3).map(tuple),
)


@given(st.lists(rows, min_size=1, max_size=4), texts)
def test_json_gives_back_an_equal_report(found: list[OpRow], name: str) -> None:
    one = report(tuple(found), name)
    assert Report.from_json(one.to_json()) == one


def test_json_is_strict() -> None:
    held = json.loads(small().to_json(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert held["rows"][3]["sqnr_db"] == "inf"


def change(field: str, value: Any) -> str:
    held = json.loads(small().to_json())
    at = held
    *path, last = field.split(".")
    for key in path:
        at = at[int(key) if isinstance(at, list) else key]
    at[last] = value
    return json.dumps(held)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", r"report: not JSON \(.*\), the text of to_json is needed"),
        ("[" * 100_000, "report: nested too deep, the text of to_json is needed"),
        ('{"a": NaN}', r"report: not JSON \(number NaN, .*\), the text of to_json is needed"),
        ("[]", "report: format is a list of 0, 9 is needed"),
        ("{}", "report: format is None, 9 is needed"),
        (change("format", 1), "report: format is 1, 9 is needed"),
        (change("extra", 2), "report: fields are .*, created_by, .*, extra, .* needed"),
        (change("proofs", 2), "report.proofs: fields are int, integer_only, .* are needed"),
        (change("name", 2), "report.name: 2, str is needed"),
        (change("rows", {}), "report.rows: a dict of 0, a list is needed"),
        (change("rows.0.macs", 1.5), r"report.rows\[0\].macs: 1.5, int is needed"),
        (change("rows.1.macs", True), r"report.rows\[1\].macs: True, int is needed"),
        (change("rows.2.sqnr_db", "good"), r"report.rows\[2\].sqnr_db: 'good', float is needed"),
        (change("created_by", [["qir"]]), r"report.created_by\[0\]: a list of 1, a list is needed"),
        (change("target", ["x" * 99]), "report.target: a list of 1, str is needed"),
        (change("rows.0.macs", 2**63), r"report.rows\[0\].macs: 922.*, at most 922.* is needed"),
        (change("rows.0.sqnr_db", 1e9), r"row a: 1e\+09 dB, at most 20000 are needed"),
    ],
)
def test_what_is_no_report_is_refused(text: str, error: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{error}$"):
        Report.from_json(text)


def test_the_worst_stands_first_and_the_unmeasured_last() -> None:
    assert [r.name for r in small().worst_first] == ["b", "c", "a", "flat", "y"]
    lines = str(small()).splitlines()
    ops = lines[lines.index("Ops, worst SQNR first (5)") + 4 :]
    assert [line.split()[0] for line in ops[:5]] == ["18.0", "33.3", "41.5", "exact", "-"]


def test_totals_and_shares() -> None:
    one = small()
    assert one.macs == 4 * 2_359_296
    assert one.micros == 112.75
    assert one.shares[0] == Share("conv vnni", 3, 3 * 2_359_296, 3 * 2368, 112.75)
    assert [s.kernel for s in one.shares] == ["conv vnni", "dense vnni", "in place"]
    assert report((row("a", ("x",)),)).micros is None


def test_text_has_no_colour_and_says_it_all() -> None:
    text = str(small())
    assert "\x1b" not in text
    assert text.startswith("net for cpu: 5 ops, 9.44 M MACs, 266.1 KiB of weights, 112.8 µs")
    for needed in (
        "least SQNR 18.0 dB at b",
        "0.333333 * (stored - 114)",
        "0.1 * (stored + 3)",
        "41 ops and 23 constants, no float among them",
        "312 intermediates stay within their bits",
        "b, accumulator: [-268,435,456, 134,217,728], 29 of 32 bits",
        "weights 266.1 KiB, code 96.0 KiB, workspace 64.0 KiB; artifact 500.0 KiB",
        "370,778 bytes of flash, 65,600 of RAM beside the stack; inputs 3,072, outputs 10",
        "qir 0.1.0, tvm 0.27.0.post1",
        "40 -> 37",
    ):
        assert needed in text


def test_packed_bytes_are_shown_where_they_are_known() -> None:
    assert "packed" not in str(small())
    built = report((row("a", ("x",), packed_bytes=1536), row("flat", ("a",), op="reshape")))
    head, _, *lines = str(built).split("Ops, worst")[1].splitlines()[2:6]
    at = head.index("packed") - 1
    assert [line[at : at + 7].split() for line in lines] == [["1.5", "KiB"], ["-"]]
    assert Report.from_json(built.to_json()) == built
    assert '<td class="n" data-by="1536">1.5 KiB</td>' in built.html()


@pytest.mark.parametrize("width", range(60, 200, 10))
def test_columns_are_dropped_and_numbers_are_never_cut(width: int) -> None:
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as got:
        console.print(small())
    text = got.get()
    assert max(map(len, text.splitlines())) <= width
    ops = text.split("Ops, worst")[1].split("Kernels")[0]
    heads = ops.splitlines()[2].replace("SQNR dB", "SQNR").split()
    worst = ops.splitlines()[4].split()
    assert worst[0] == "18.0" and worst[worst.index("µs") - 1] == "100.5"
    cells = {"shape": "1x32x32x16", "weights": "2.3 KiB", "MACs": "2.36 M", "bits": "u8 x i8 + u8"}
    for head, cell in cells.items():
        assert (head in heads) == (cell in ops)
        assert (head in heads) or head in ops.partition("no room for")[2]
    assert not re.search(r"\d…", ops.replace("/Conv", ""))
    assert re.search(r"conv vnni +3 +7.08 M", text) or width < 70


def test_a_terminal_of_80_columns_shows_what_matters_most() -> None:
    console = Console(width=80, record=True, color_system=None)
    with console.capture() as got:
        console.print(small())
    ops = got.get().split("Ops, worst")[1].split("Kernels")[0]
    for text in ("SQNR dB", "u8 x i8 + u8 -> u8", "100.5 µs", "no room for "):
        assert text in ops


def test_a_notebook_shows_the_page() -> None:
    frame = small()._repr_html_()
    page = re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', frame)
    assert page and unescape(page[1]) == small().html()


def test_colour_on_a_terminal() -> None:
    console = Console(width=140, force_terminal=True, color_system="standard")
    with console.capture() as got:
        console.print(small())
    assert "\x1b[1;31m" in got.get()  # the op under 20 dB, in bold red


def test_many_ops_are_cut_and_counted() -> None:
    text = str(report(tuple(row(f"r{i}", ("x",), float(i)) for i in range(150))))
    assert "... and 30 more: the page and the JSON have all of them" in text


def test_without_and_with_times() -> None:
    bare = small().without_times()
    assert bare.micros is None and all(p.seconds is None for p in bare.passes)
    assert "time" not in str(bare)
    assert bare.with_times({"a": 5.0}).rows[0] == dataclasses.replace(bare.rows[0], micros=5.0)


@pytest.mark.parametrize(
    ("low", "high", "bits", "needed"),
    [(0, 0, 32, 1), (-1, 0, 8, 1), (-128, 127, 8, 8), (-129, 0, 16, 9), (0, 128, 16, 9)],
)
def test_margin_bits(low: int, high: int, bits: int, needed: int) -> None:
    margin = Margin("a", "sum", low, high, bits)
    assert margin.bits_needed == needed
    assert -(1 << (needed - 1)) <= low and high < 1 << (needed - 1)
    assert 0 <= margin.share <= 1


def test_numbers_as_text() -> None:
    assert [count(n) for n in (0, 999, 1000, 1_234_567, 4 * 10**9, 5 * 10**12)] == [
        "0", "999", "1 k", "1.23 M", "4 G", "5,000 G",
    ]  # fmt: skip
    assert [size(n) for n in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip
    assert [micros(t) for t in (None, 0.0, 0.043, 9999.9, 12_345.0)] == [
        "-",
        "0.0 µs",
        "0.04 µs",
        "9999.9 µs",
        "12.3 ms",
    ]
    assert [decibels(v) for v in (None, float("inf"), -3.21)] == ["-", "exact", "-3.2"]
    assert [sqnr_class(v) for v in (None, 50, 30, 20, 19.9, -5)] == [
        "none", "good", "fair", "low", "bad", "bad",
    ]  # fmt: skip
