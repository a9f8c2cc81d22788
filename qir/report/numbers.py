"""Numbers, shapes and places of a report as text; every form of the report writes them alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import takewhile

from qir.report.rows import Agreement, OpRow, Port, ReportData, Sizes

# SQNR from which a value is in each class. 8-bit values over their total range give about 50 dB
# (6.02 * 8 + 1.76), and 6 dB are one bit; under 20 dB a tenth of the amplitude is error.
CLASSES = ((40.0, "good"), (30.0, "fair"), (20.0, "low"), (-math.inf, "bad"))


def sqnr_class(sqnr_db: float | None) -> str:
    """good, fair, low or bad; none when it was not measured."""
    if sqnr_db is None:
        return "none"
    return next(name for least, name in CLASSES if sqnr_db >= least)


def short(name: str, most: int = 48) -> str:
    """A name of at most `most` letters: its two ends, which tell more than its start alone."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def meaning(port: Port) -> str:
    if port.scale is None or port.zero_point is None:
        return ""
    return f"{port.scale:.6g} * (stored - {port.zero_point})".replace("- -", "+ ")


# Heads of tables; one that ends in > is over numbers.
PORTS = ("", "name", "shape", "stored", "real")
KERNELS = ("kernel", "calls>", "MACs>", "of all>", "weights>", "time>", "of all>")


ENTRIES = ("entry", "tokens>", "steps>", "MACs>", "moved>", "a token>", "of weights>")


def entry_cells(report: ReportData) -> Iterator[tuple[str, ...]]:
    """The cells under ENTRIES of every entry."""
    for e in report.entries:
        sizes = (size(e.moved_bytes), size(e.moved_bytes // e.tokens), size(e.weight_bytes))
        yield e.name, str(e.tokens), count(e.steps), count(e.macs), *sizes


def agreement_text(agreement: Agreement) -> str:
    """One line: the divergence, the same likeliest tokens, and the SQNR along a sequence."""
    along = " ".join(decibels(db) for db in agreement.positions)
    tokens, top1 = count(agreement.tokens), part(agreement.top1, 1.0)
    return (
        f"on {tokens} tokens of calibration text: KL divergence from the float model"
        f" {1000 * agreement.kl:.2f} mnat, the same likeliest token in {top1} of the places,"
        f" SQNR of the logits along a sequence {along} dB"
    )


def port_cells(report: ReportData) -> Iterator[tuple[str, ...]]:
    """The cells under PORTS of every input and output."""
    for way, ports in (("in", report.inputs), ("out", report.outputs)):
        for port in ports:
            yield way, port.name, shape(port.shape), port.storage, meaning(port)


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
    """The memory a machine needs to run the program, in exact bytes."""
    return (
        f"{sizes.flash:,} bytes of flash, {sizes.ram:,} of RAM beside the stack; inputs"
        f" {sizes.inputs:,}, outputs {sizes.outputs:,}"
    )


def micros(time: float | None) -> str:
    """Microseconds as text: hundredths below 1, milliseconds from 10,000 on."""
    if time is None:
        return "-"
    if 0 < time < 1:
        return f"{time:.2f} µs"
    return f"{time / 1000:.1f} ms" if time >= 10_000 else f"{time:.1f} µs"


def part(some: float, total: float | None) -> str:
    return f"{100 * some / total:.1f} %" if total else "-"


class Places:
    """Origins of ops, without the words that all of them start with ("model.onnx node")."""

    def __init__(self, rows: Iterable[OpRow]) -> None:
        starts = [part.split(" ")[:-1] for row in rows for part in row.loc.split(" + ") if part]
        prefix = takewhile(lambda words: len(set(words)) == 1, zip(*starts, strict=False))
        self.shared = " ".join([*(words[0] for words in prefix), ""]) if len(starts) > 1 else ""

    def of(self, row: OpRow) -> str:
        """The origin of `row`, or its value's name if it has none."""
        parts = (part.removeprefix(self.shared) for part in row.loc.split(" + "))
        return " + ".join(parts) if row.loc else f"%{row.name}"
