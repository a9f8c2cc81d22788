"""What the commands do: compile, run, bench, report, targets."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import qir
from qir.backends.artifact.folder import check_free
from qir.backends.targets import TARGETS
from qir.cli.files import read_arrays, read_batches, write_arrays
from qir.ir.errors import DataError, PassError
from qir.ir.text.file import write_whole
from qir.ir.types import Array
from qir.measure.machines import machines
from qir.measure.profiling import profiled, reals
from qir.measure.timing import Timing, measure
from qir.net import look
from qir.report.model import Report
from qir.report.terminal import count, cut, memory, micros, part, summary, table
from qir.runtime import Port

PLAIN_COLUMNS = 160


def compile_model(given: Namespace) -> None:
    """A model file becomes an artifact folder."""
    if not given.model.is_file():
        raise DataError(f"{given.model}: no such file, a model is needed")
    output = given.output or Path(f"{given.model.stem}.qir")
    check_free(output)  # said now, not after the work
    with progress() as tell:
        net = qir.compile(
            given.model,
            calibration=read_batches(given.calibration) if given.calibration else None,
            target=given.target,
            bits=_bits(given),
            rounding=_rounding(given),
            batch=given.batch,
            shapes=dict(given.shape) or None,
            name=given.name,
            observer=given.observer,
            state=given.state,
            check=given.check,
            progress=tell,
        )
    net.save(output)
    report = net.report()
    out = console()
    out.print(f"{report.name} for {report.machine}: {summary(report)}", highlight=False)
    out.print(f"integer only: {report.proofs.integer_only}", highlight=False)
    claims = report.proofs.overflow_claims
    out.print(f"no overflow: {claims} intermediates stay within their bits", highlight=False)
    out.print(f"memory: {memory(report.sizes)}", highlight=False)
    out.print(f"written to {output}; `qir report {output}` tells more", highlight=False)


def _rounding(given: Namespace) -> Any:
    """How weights are rounded, in as many waves as are asked for."""
    if given.waves is None:
        return given.rounding
    if given.rounding is None:
        raise PassError("--waves: given without --rounding, a method is needed")
    from qir.passes.rounding import method_of  # torch, which other commands do without

    return [replace(one, waves=given.waves) for one in method_of(given.rounding)]


def _bits(given: Namespace) -> Any:
    """The bits asked for; the limits of mixed precision hold for no others."""
    names = ("size", "bops", "latency", "size_bytes", "latency_us", "weight_bits",
             "activation_bits", "choices", "ends", "measure")  # fmt: skip
    asked = {name: value for name in names if (value := getattr(given, name)) is not None}
    if given.bits != "mixed":
        if asked:
            option = next(iter(asked)).replace("_", "-")
            raise DataError(f"--{option}: given with --bits {given.bits}, --bits mixed is needed")
        return given.bits
    if "choices" in asked:
        asked["choices"] = tuple(asked["choices"].split(","))
    if asked.get("ends") == "none":
        asked["ends"] = None
    return qir.MixedPrecision(**asked)


def run_artifact(given: Namespace) -> None:
    """Run samples one after the other; write the outputs, or tell what is in them."""
    net = qir.load(given.artifact, given.threads, given.emulate, given.variant)
    arrays = [array for name in given.input for array in read_arrays(name)]
    call = net.run_integer if given.integer else net
    found = _run_all(call, net.session.inputs, arrays)
    outputs = dict(zip((p.name for p in net.session.outputs), found, strict=True))
    if given.output is not None:
        write_arrays(given.output, outputs)
        return
    for name, array in outputs.items():
        shown = np.array2string(array, threshold=20, precision=5)
        print(f"{name}: {array.dtype}{list(array.shape)}\n{shown}")


def _run_all(call: Callable[..., Any], ports: tuple[Port, ...], arrays: list[Array]) -> list[Array]:
    """The outputs for all samples: arrays that hold several batches are cut into them."""
    if len(arrays) != len(ports):
        names = ", ".join(p.name for p in ports)
        raise DataError(f"{len(arrays)} input arrays given, {len(ports)} are needed: {names}")
    counts = {_batches(port, array) for port, array in zip(ports, arrays, strict=True)}
    if len(counts) > 1:
        raise DataError(
            f"inputs hold {' and '.join(map(str, sorted(counts)))} batches, one number is needed"
        )
    runs = []
    for i in range(counts.pop() if counts else 1):
        cut = [a if a.shape == p.shape else a[i * p.shape[0] :][: p.shape[0]]
               for p, a in zip(ports, arrays, strict=True)]  # fmt: skip
        y = call(*cut)
        runs.append(y if isinstance(y, tuple) else (y,))
    return [np.concatenate(ys) if len(ys) > 1 else ys[0] for ys in zip(*runs, strict=True)]


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


def bench_artifact(given: Namespace) -> None:
    """Time the whole call as Python makes it, then each step of it."""
    net = qir.load(given.artifact, given.threads, variant=given.variant)
    inputs = [reals(port) for port in net.session.inputs]
    whole = measure(lambda: net(*inputs), given.seconds)
    report, moves = profiled(net)
    if given.json:
        ops = {row.name: row.micros for row in report.rows}
        print(json.dumps({"name": report.name, "threads": given.threads, **asdict(whole),
                          "ops": ops, "moves": moves}))  # fmt: skip
        return
    out = console()
    out.print(
        f"{report.name} for {net.session.variant or report.target}, {given.threads} threads:"
        f" least {micros(whole.least)},"
        f" median {micros(whole.median)} of {whole.runs} runs",
        highlight=False,
    )
    out.print(_times(report, moves, whole))


def _times(report: Report, moves: float, whole: Timing) -> Any:
    """The ops by time, the slowest first, then what is spent around them."""
    total = (report.micros or 0.0) + moves
    found = table(
        "Ops, slowest first", "time>", "of all>", "op", "MACs>", "GMAC/s>", "kernel", "value"
    )
    for row in sorted(report.rows, key=lambda r: -(r.micros or 0.0)):
        rate = f"{row.macs / row.micros / 1000:.1f}" if row.micros and row.macs else "-"
        found.add_row(micros(row.micros), part(row.micros or 0.0, total), row.op, count(row.macs),
                      rate, row.kernel, row.name)  # fmt: skip
    found.add_section()
    found.add_row(micros(moves), part(moves, total), "moving inputs and outputs", "", "", "", "")
    border = max(whole.median - total, 0.0)
    found.add_row(micros(border), "", "quantizing, and the call from Python", "", "", "", "")
    return cut(found, console().width, "value")


def show_report(given: Namespace) -> None:
    """Print the report, or write it as a page."""
    if given.profile:
        report = profiled(qir.load(given.artifact))[0]
    else:
        report = look(given.artifact).report()
    if given.html is not None:
        write_whole(given.html, report.html().encode())
    if given.json:
        print(report.to_json(), end="")
    elif given.html is None:
        console().print(report)


def list_targets(given: Namespace) -> None:
    """Every target: what it is, and whether this machine can build for it and run it."""
    console().print(machines(make() for make in TARGETS))


def console() -> Console:
    """Standard output; where that is no terminal, plain text that is wide enough for the tables."""
    if sys.stdout.isatty():
        return Console(markup=False)
    return Console(width=PLAIN_COLUMNS, no_color=True, markup=False)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr for qir.compile to move, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("import", total=None)

        def tell(what: str, done: int, of: int) -> None:
            words = what if of else f"{what}: {done} samples"
            bar.update(task, description=words, completed=done, total=of or None)

        yield tell
