"""The commands run, bench, report and targets."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

import qir
from qir.backends.targets import TARGETS
from qir.cli.console import console, lines
from qir.cli.entries import bench_entries, run_entry
from qir.cli.files import read_inputs, write_arrays
from qir.ir.errors import DataError, printable
from qir.ir.text.file import write_whole
from qir.ir.types import Array
from qir.loading import look
from qir.measure.machines import builds, runs
from qir.measure.profiling import profiled, reals_within
from qir.measure.timing import Timing, measure
from qir.report.model import Report
from qir.report.numbers import count, micros, part
from qir.report.tables import table
from qir.runtime import Port
from qir.runtime.machine import cpu_flags


def run_artifact(options: Namespace) -> None:
    """Run samples one after the other; write the outputs, or print them."""
    net = qir.load(options.artifact, options.threads, options.emulate, options.variant)
    if net.session.has_entries or options.entry is not None:
        outputs = run_entry(net, options)
    else:
        ports = net.session.inputs
        arrays = read_inputs(options.input, [port.name for port in ports])
        results = _run_all(net.run_integer if options.integer else net, ports, arrays)
        outputs = dict(zip((p.name for p in net.session.outputs), results, strict=True))
    if options.output is not None:
        write_arrays(options.output, outputs)
        return
    for name, array in outputs.items():
        text = np.array2string(array, threshold=20, precision=5)
        print(f"{printable(name)}: {array.dtype}{list(array.shape)}\n{text}")


def _run_all(
    call: Callable[..., Any], ports: tuple[Port, ...], arrays: tuple[Array, ...]
) -> list[Array]:
    """The outputs for all samples: arrays of several batches are split into them."""
    counts = {_batches(port, array) for port, array in zip(ports, arrays, strict=True)}
    if len(counts) > 1:
        raise DataError(
            f"inputs hold {' and '.join(map(str, sorted(counts)))} batches, one number is needed"
        )
    results = []
    for i in range(counts.pop() if counts else 1):
        batch = [a if a.shape == p.shape else a[i * p.shape[0] :][: p.shape[0]]
                 for p, a in zip(ports, arrays, strict=True)]  # fmt: skip
        y = call(*batch)
        results.append(y if isinstance(y, tuple) else (y,))
    return [np.concatenate(ys) if len(ys) > 1 else ys[0] for ys in zip(*results, strict=True)]


def _batches(port: Port, array: Array) -> int:
    """How many runs `array` is: 1, or a whole number of the port's batches along the first axis."""
    if array.shape == port.shape:
        return 1
    fits = array.ndim == len(port.shape) > 0 and array.shape[1:] == port.shape[1:]
    if not fits or not len(array) or len(array) % port.shape[0]:
        raise DataError(
            f"input {port.name}: shape {list(array.shape)} given, {list(port.shape)} is needed",
            "several samples, along the first axis, are run one after the other",
        )
    return len(array) // port.shape[0]


def bench_artifact(options: Namespace) -> None:
    """Time the call from Python as a whole, then each step of the program."""
    net = qir.load(options.artifact, options.threads, variant=options.variant)
    if net.session.has_entries:
        bench_entries(net, options)
        return
    inputs = reals_within(net)
    call = measure(lambda: net(*inputs), options.seconds)
    report, moves = profiled(net)
    if options.json:
        ops = {row.name: row.micros for row in report.rows}
        print(json.dumps({"name": report.name, "threads": options.threads, **asdict(call),
                          "ops": ops, "moves": moves}))  # fmt: skip
        return
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    lines(
        f"{report.name} for {net.session.variant or report.target}, {threads}:"
        f" least {micros(call.least)}, median {micros(call.median)} of {call.runs} runs"
    )
    out = console()
    out.print(_times(report, moves, call, out.width))


def _times(report: Report, moves: float, call: Timing, columns: int) -> Any:
    """The ops, slowest first, then the time spent around them."""
    total = (report.micros or 0.0) + moves
    rows = []
    for row in sorted(report.rows, key=lambda r: -(r.micros or 0.0)):
        rate = f"{row.macs / row.micros / 1000:.1f}" if row.micros and row.macs else "-"
        rows.append((micros(row.micros), part(row.micros or 0.0, total), row.op, count(row.macs),
                     rate, row.kernel, row.name))  # fmt: skip
    border = max(call.median - total, 0.0)
    rows += [
        (micros(moves), part(moves, total), "moving inputs and outputs", "", "", "", ""),
        (micros(border), "", "quantizing, Python call", "", "", "", ""),
    ]
    return table(
        "Ops, slowest first",
        ("time>", "of all>", "op", "MACs>", "GMAC/s>", "kernel", "value"),
        rows,
        columns,
        cut=("value", "op"),
        drop=("kernel", "MACs", "GMAC/s"),
        lines_after=(len(report.rows) - 1,),
    )


def show_report(options: Namespace) -> None:
    """Print the report, or write it as a page."""
    if options.profile:
        report = profiled(qir.load(options.artifact))[0]
    else:
        report = look(options.artifact).report()
    if options.html is not None:
        write_whole(options.html, report.html().encode())
    if options.json:
        print(report.to_json(), end="")
    elif options.html is None:
        console().print(report)


def list_targets(options: Namespace) -> None:
    """List every target, and whether this machine can build for it and run it."""
    flags, out = cpu_flags(), console()
    rows = [
        (t.name, ", ".join(t.aliases), t.about, builds(t), runs(t, flags))
        for t in (make() for make in TARGETS)
    ]
    heads = ("name", "also", "machine", "builds here", "runs here")
    out.print(table("Targets", heads, rows, out.width, wrap=heads[2:]))
