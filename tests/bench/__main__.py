"""qir against what a user would pick instead, on the zoo: python -m tests.bench resnet8 --threads 1

The peers are ONNX Runtime and OpenVINO on the int8 model that ONNX Runtime's own quantizer makes
(and on the float one with --float), all through their Python calls, batch 1, on the same image.
Each engine lives in a process of its own, all pinned to the same cores; they run in turn, a slice
of time each, again and again, so that a busy moment of the machine hits them all. Reported are the
least of all runs and the lowest median of a slice. Results go to .bench/latency.jsonl too. Language
models and encoders have a command of their own: python -m tests.bench language --help
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import qir
from qir.measure.timing import Timing, measure
from tests.bench.models import CACHE, compiled, digest, names, zoo_module
from tests.tree import ROOT

OURS = "qir"
PEERS = {"ort int8": "int8", "openvino int8": "int8"}
FLOATS = {"ort float": "float", "openvino float": "float"}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def main() -> None:
    if sys.argv[1:2] == ["language"]:
        from tests.bench.language.run import main as language

        language(sys.argv[2:])
        return
    args = _arguments()
    if args.child:
        serve(*args.child, args.threads)
        return
    machine = about_machine(args.threads)
    console.print(", ".join(f"{k} {v}" for k, v in machine.items()))
    table = _table(args.threads)
    for name in names(args.names):
        timings = bench(name, args)
        _add(table, name, timings)
        _write(args.out, name, timings, machine)
    console.print(table)


def _arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*", help="models of the zoo; all without a name")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=12, help="slices of each engine")
    p.add_argument("--seconds", type=float, default=0.4, help="one slice")
    p.add_argument("--bits", type=int, default=8)
    p.add_argument("--float", action="store_true", help="the peers' float models too")
    p.add_argument("--no-peers", action="store_true")
    p.add_argument("--out", type=Path, default=CACHE / "latency.jsonl")
    p.add_argument("--child", nargs=3, metavar=("ENGINE", "PATH", "MODEL"), help=argparse.SUPPRESS)
    return p.parse_args()


def bench(name: str, given: argparse.Namespace) -> dict[str, Timing]:
    """The time of each engine on one model; those that fail to load are told and left out."""
    folder, seconds = compiled(name, bits=given.bits)
    console.print(f"{name}: " + (f"compiled in {seconds:.1f} s" if seconds else "from the cache"))
    paths = {OURS: folder}
    if not given.no_peers:
        files = peer_files(name)
        expected = {**PEERS, **FLOATS} if given.float else PEERS
        paths |= {engine: files[kind] for engine, kind in expected.items()}
    children = {
        engine: Child(engine, _command(engine, path, name, given.threads))
        for engine, path in paths.items()
    }
    timings: dict[str, Timing] = {}
    for _ in range(given.rounds):
        for engine, child in list(children.items()):
            once = child.run(str(given.seconds))
            if once is None:
                console.print(f"  {engine} fails: {child.why()}", style="yellow")
                del children[engine]
            else:
                timings[engine] = timings[engine].merged(once) if engine in timings else once
    for child in children.values():
        child.stop()
    return timings


def peer_files(name: str) -> dict[str, Path]:
    """The model as the peers take it: batch 1 in float, and in int8 by ONNX Runtime's quantizer."""
    case, peers = zoo_module().ZOO[name], zoo_module("peers")
    stem = CACHE / f"{name}-{digest(case.model)[:16]}"
    floats, integers = stem.with_suffix(".float.onnx"), stem.with_suffix(".int8.onnx")
    if not integers.exists():
        data = case.calibration()
        peers.fixed_batch(str(case.model), str(floats), [1, *data.shape[1:]])
        temporary = stem.with_suffix(".new.onnx")
        peers.quantize(str(floats), str(temporary), [data[i : i + 1] for i in range(len(data))])
        temporary.replace(integers)
    return {"float": floats, "int8": integers}


def _command(engine: str, path: Path, name: str, threads: int) -> list[str]:
    command = [sys.executable, "-m", "tests.bench", "--threads", str(threads)]
    return [*command, "--child", engine, str(path), name]


class Child:
    """One engine in its own process, which measures on request."""

    def __init__(self, engine: str, command: Sequence[str]) -> None:
        self.log = CACHE / f"{engine.replace(' ', '-')}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=ROOT,
            )  # fmt: skip

    def run(self, request: str) -> Timing | None:
        """None when the process has died."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(request, file=self.process.stdin, flush=True)
        except OSError:
            return None
        for line in self.process.stdout:
            if line.startswith("{"):  # engines print things of their own
                return Timing(**json.loads(line))
        return None

    def why(self) -> str:
        self.process.wait()
        lines = self.log.read_text().strip().splitlines()
        return lines[-1][:200] if lines else f"status {self.process.returncode}"

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(engine: str, path: str, name: str, threads: int) -> None:
    """In the child: for each number on stdin, measure for so many seconds and print the timing."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])
    x = zoo_module().ZOO[name].inputs()[:1]
    call = runner(engine, path, threads)
    for line in sys.stdin:
        timing = measure(lambda: call(x), float(line))
        print(json.dumps(vars(timing)), flush=True)


def runner(engine: str, path: str, threads: int) -> Callable[[np.ndarray], Any]:
    if engine == OURS:
        return qir.load(path, threads)
    return zoo_module("peers").runner(engine.split(" ")[0], path, threads)  # type: ignore[no-any-return]


def about_machine(threads: int) -> dict[str, str]:
    """What the numbers depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if "model name" in line
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "cpu": f"{cpu} ({len(os.sched_getaffinity(0))} cores)",
        "threads": str(threads),
        "load": f"{os.getloadavg()[0]:.1f}",
        "qir": f"{qir.__version__} {commit.stdout.strip()}".strip(),
        "onnxruntime": _version("onnxruntime"),
        "openvino": _version("openvino"),
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return "absent"


def best_peer(found: dict[str, Timing]) -> float | None:
    """The least microseconds of any int8 peer."""
    return min((found[e].least for e in PEERS if e in found), default=None)


def _table(threads: int) -> Table:
    table = Table(title=f"least / median microseconds, batch 1, {threads} threads")
    for head in ("model", OURS, *PEERS, *FLOATS, "qir / best int8 peer"):
        table.add_column(head, justify="left" if head == "model" else "right", no_wrap=True)
    return table


def _add(table: Table, name: str, found: dict[str, Timing]) -> None:
    def cell(engine: str) -> str:
        timing = found.get(engine)
        return f"{timing.least:.1f} / {timing.median:.1f}" if timing else "-"

    peer = best_peer(found)
    ratio = f"{found[OURS].least / peer:.2f}" if peer and OURS in found else "-"
    table.add_row(name, *(cell(e) for e in (OURS, *PEERS, *FLOATS)), ratio)


def _write(out: Path, name: str, found: dict[str, Timing], machine: dict[str, str]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as f:
        for engine, timing in found.items():
            line = {"model": name, "engine": engine, **vars(timing), "machine": machine}
            print(json.dumps(line), file=f)


if __name__ == "__main__":
    main()
