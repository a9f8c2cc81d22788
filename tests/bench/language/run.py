"""Language models and encoders beside their peers: python -m tests.bench language --models smollm2

llama.cpp's Q8_0 and Q4_0 (llama-cpp-python), ONNX Runtime's dynamic and static int8, OpenVINO. Of a
decoder a prompt of 128 tokens is read, then one token after the other; an encoder reads 32 and 128
tokens. Each engine lives in a process of its own, all pinned to the same cores; they run in turn, a
slice of time each. Reported are the least of all runs and the lowest median of a slice. Results go
to .bench/language.jsonl too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from qir.measure.timing import Timing
from tests.bench.__main__ import Child, about_machine, console
from tests.bench.language.models import NAMES, Job, jobs
from tests.bench.models import CACHE


def main(arguments: Sequence[str]) -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench language", description=__doc__)
    p.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--bits", default="w8a8")
    p.add_argument("--rounds", type=int, default=12, help="slices of each engine")
    p.add_argument("--seconds", type=float, default=1.0, help="one slice")
    p.add_argument("--out", type=Path, default=CACHE / "language.jsonl")
    args = p.parse_args(arguments)
    machine = about_machine(max(args.threads))
    console.print(", ".join(f"{k} {v}" for k, v in machine.items()))
    table = Table(title="least / median milliseconds")
    for head in ("model", "threads", "part", "engine", "least / median", "tokens a second"):
        table.add_column(head, justify="left" if head in ("model", "engine") else "right")
    for name in args.models:
        for title, job in jobs(name, args.bits):
            for threads in args.threads:
                timings = bench(job, threads, args.rounds, args.seconds)
                for (engine, part), timing in timings.items():
                    _add(table, title, threads, part, engine, timing, job)
                    _write(args.out, title, threads, part, engine, timing, machine)
    console.print(table)


def bench(job: Job, threads: int, rounds: int, seconds: float) -> dict[tuple[str, str], Timing]:
    """The time of each part on each engine; engines that fail are told and left out."""
    children = {
        engine: Child(
            engine,
            [sys.executable, "-m", "tests.bench.language.engines", engine, str(path),
             str(job.length), str(threads)],
        )
        for engine, path in job.files.items()
    }  # fmt: skip
    timings: dict[tuple[str, str], Timing] = {}
    for _ in range(rounds):
        for part in job.parts:
            for engine, child in list(children.items()):
                once = child.run(f"{part} {seconds}")
                if once is None:
                    console.print(f"  {engine} fails: {child.why()}", style="yellow")
                    del children[engine]
                    continue
                key = engine, part
                timings[key] = timings[key].merged(once) if key in timings else once
    for child in children.values():
        child.stop()
    return timings


def _add(
    table: Table, title: str, threads: int, part: str, engine: str, timing: Timing, job: Job
) -> None:
    tokens = 1 if part == "decode" else job.length
    times = f"{timing.least / 1000:.2f} / {timing.median / 1000:.2f}"
    rate = f"{tokens * 1e6 / timing.median:,.0f}"
    table.add_row(title, str(threads), part, engine, times, rate)


def _write(
    out: Path, title: str, threads: int, part: str, engine: str, timing: Timing,
    machine: dict[str, str],
) -> None:  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    line = {"model": title, "threads": threads, "part": part, "engine": engine, **vars(timing)}
    with out.open("a") as f:
        print(json.dumps({**line, "machine": {**machine, "threads": str(threads)}}), file=f)
