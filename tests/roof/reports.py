"""Reports made by hand, of the sizes that real ones have."""

from __future__ import annotations

import math

from qir.report.model import Report
from qir.report.rows import Margin, OpRow, PassRow, Port, Proofs, Sizes


def row(name: str, reads: tuple[str, ...], sqnr_db: float | None = 40.0, **other: object) -> OpRow:
    fields: dict[str, object] = {
        "op": "conv 3x3",
        "loc": f"model.onnx node /{name}/Conv",
        "kernel": "conv vnni",
        "bits": "u8 x i8 -> u8",
        "shape": (1, 32, 32, 16),
        "macs": 2_359_296,
        "weight_bytes": 2368,
        **other,
    }
    return OpRow(name, sqnr_db=sqnr_db, reads=reads, **fields)  # type: ignore[arg-type]


def report(rows: tuple[OpRow, ...], name: str = "net") -> Report:
    """Reads `x`, gives the last row."""
    return Report(
        name,
        "cpu",
        rows,
        (
            PassRow("fold-constants", "Keeps: every bit", 0.25, 3, 40, 37, 0.0),
            PassRow("quantize", "Changes: everything", None, 12, 37, 80),
        ),
        Proofs(
            "41 ops and 23 constants, no float among them",
            312,
            (Margin("b", "accumulator", -(1 << 28), 1 << 27, 32),),
            "9 functions, no float type in any",
        ),
        Sizes(272_474, 98_304, 65_536, 512_000, 370_778, 65_600, 3_072, 10),
        (Port("image", "x", (1, 32, 32, 3), "u8", 1 / 3, 114),),
        (Port("logits", rows[-1].name, (1, 10), "i8", 0.1, -3),),
        (("qir", "0.1.0"), ("tvm", "0.27.0.post1")),
    )


def small() -> Report:
    """A residual block with every kind of row: bad, exact, not measured, timed and not."""
    return report(
        (
            row("a", ("x",), 41.5, micros=12.25),
            row("b", ("a",), 18.0, micros=100.5),
            row("c", ("b", "a"), 33.3, op="conv 3x3 + add", bits="u8 x i8 + u8 -> u8"),
            row("flat", ("c",), math.inf, op="reshape", kernel="in place", macs=0, weight_bytes=0),
            row("y", ("flat",), None, op="linear", shape=(1, 10), kernel="dense vnni", loc=""),
        )
    )


def deep(blocks: int) -> Report:
    """A chain of `blocks` residual blocks: three rows each, one edge past two of them."""
    rows = [row("stem", ("x",))]
    for i in range(blocks):
        start = rows[-1].name
        rows.append(row(f"expand{i}", (start,), 20.0 + i % 30))
        rows.append(row(f"depthwise{i}", (rows[-1].name,), 25.0 + i % 20, op="depthwise 3x3 /2"))
        rows.append(row(f"project{i}", (rows[-1].name, start), 30.0, op="conv 1x1 + add"))
    return report(tuple(rows), "deep")


def wide(branches: int, blocks: int) -> Report:
    """Blocks of branches of several depths that a concat joins; the last concat reads them all."""
    rows, last, ends = [row("stem", ("x",))], "stem", []
    for b in range(blocks):
        joined = []
        for k in range(branches):
            at = last
            for depth in range(1 + k % 3):
                rows.append(row(f"b{b}_{k}_{depth}", (at,)))
                at = rows[-1].name
            joined.append(at)
        rows.append(row(f"join{b}", tuple(joined), op="concat"))
        last = rows[-1].name
        ends.append(last)
    rows.append(row("all", tuple(ends), op="concat"))
    return report(tuple(rows), "wide")
