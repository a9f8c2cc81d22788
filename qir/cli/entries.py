"""The commands on artifacts with entries: generate, and what run and bench do there."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import qir
from qir.cli.console import console, lines
from qir.cli.files import read_inputs
from qir.ir.errors import DataError
from qir.ir.types import Array
from qir.language_net import LanguageNet
from qir.measure.bandwidth import read_bandwidth
from qir.measure.profiling import inputs_within, profiled
from qir.measure.timing import Timing, measure
from qir.net import Net, translated
from qir.report.numbers import micros, part, size
from qir.report.rows import EntryRow
from qir.report.tables import table
from qir.runtime.signature import Signature


def generate_tokens(options: Namespace) -> None:
    """Print the ids that follow a prompt, each as it comes."""
    net = qir.load(options.artifact, options.threads, options.emulate, options.variant)
    if not isinstance(net, LanguageNet):
        raise DataError(
            f"{options.artifact}: no language model, one is needed", "qir.compile_lm makes one"
        )
    tokens = net.generate(
        np.array(options.ids),
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
        stop=options.stop,
    )
    for at, token in enumerate(tokens):
        print(f"{' ' if at else ''}{token}", end="", flush=True)
    print()


def run_entry(net: Net, options: Namespace) -> dict[str, Array]:
    """The outputs of one call of an entry, by name; the state is read from a file and written back
    where there is one.
    """
    signature = entry_of(net, options.entry)
    arrays = read_inputs(options.input, [port.name for port in signature.inputs])
    entry = net.session.entries[signature.name]
    with translated():
        state = net.session.new_state(_state(options.state))
        result = entry.run_integer(state, *arrays) if options.integer else entry(state, *arrays)
    if options.state is not None:
        np.save(options.state, state)
    outputs = result if isinstance(result, tuple) else (result,)
    return dict(zip((port.name for port in signature.outputs), outputs, strict=True))


def _state(file: Path | None) -> Array | None:
    """The bytes of a state in a file; None where there is no file yet. Errors: DataError."""
    if file is None or not file.exists():
        return None
    try:
        state: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as e:
        raise DataError(f"{file}: cannot be read ({e}), a saved state is needed") from e
    return state


def entry_of(net: Net, entry: str | None) -> Signature:
    """The entry of that name, or the first. Errors: DataError for an artifact without it."""
    with translated():
        return net.session.signatures[0] if entry is None else net.session.signature(entry)


def bench_entries(net: Net, options: Namespace) -> None:
    """Time a call of each entry, or of one."""
    names = list(net.session.entries) if options.entry is None else [options.entry]
    times = {name: _timed(net, name, options.seconds / len(names)) for name in names}
    rows = {row.name: row for row in net.report().entries}
    ops, moves = profiled(net, names[0])
    memory = read_bandwidth(options.threads)
    if options.json:
        of_ops = {row.name: row.micros for row in ops.rows}
        entries = {name: asdict(time) for name, time in times.items()}
        print(json.dumps({"name": net.name, "threads": options.threads, "entries": entries,
                          "ops": of_ops, "moves": moves, "bandwidth": memory}))  # fmt: skip
        return
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    lines(
        f"{net.name} for {net.session.variant or net.report().target}, {threads};"
        f" memory is read at {memory / 1e9:.1f} GB/s"
    )
    heads = (
        "entry",
        "tokens>",
        "least>",
        "median>",
        "tokens/s>",
        "a token>",
        "of memory>",
        "runs>",
    )
    cells = [_cells(rows[name], time, memory) for name, time in times.items()]
    out = console()
    out.print(table("Entries", heads, cells, out.width))


def _timed(net: Net, name: str, seconds: float) -> Timing:
    entry = net.session.entries[entry_of(net, name).name]
    state, inputs = net.session.new_state(), inputs_within(net, entry_of(net, name))
    return measure(lambda: entry.run_integer(state, *inputs), seconds)


def _cells(row: EntryRow, time: Timing, memory: float) -> tuple[Any, ...]:
    """`a token`: the bytes of weights, as packed, for each; `of memory`: the share of its bandwidth
    that reading them once a call takes.
    """
    rate = f"{row.tokens * 1e6 / time.median:,.1f}"
    share = part(row.weight_bytes * 1e6 / time.median, memory)
    times = micros(time.least), micros(time.median)
    each = size(row.weight_bytes // row.tokens)
    return row.name, str(row.tokens), *times, rate, each, share, str(time.runs)
