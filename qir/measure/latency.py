"""The time of each layer on this machine at each width: its kernel, compiled and timed."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from qir.backends.artifact import artifact
from qir.backends.lowering import variants
from qir.backends.lowering.program import LoweredProgram, Step
from qir.backends.targets.generators import generator_of
from qir.backends.toolchain import link
from qir.ir.errors import LowerError
from qir.ir.graph import Graph
from qir.ir.target import Target
from qir.measure.code_version import source
from qir.measure.machines import runs
from qir.measure.profiling import PROFILES, stored
from qir.net import translated
from qir.passes.bits.choice import Bits
from qir.passes.infra.tasks import Store, Tell, quiet
from qir.runtime import opened, read
from qir.runtime.machine import cpu_flags

SESSIONS = 3  # processes that time a kernel: one of them alone may have had a busy machine
ROUNDS = 3  # of PROFILES runs each; the least median of a kernel counts


@dataclass(frozen=True)
class Latencies:
    """Microseconds of one run: `layers` of each layer at each width, `rest` of all other steps
    (at the widest, where they do not depend on the choice).
    """

    layers: Mapping[str, Mapping[Bits, float]]
    rest: float


def measure_latency(
    graphs: Mapping[Bits, Graph],
    layers: Iterable[str],
    machine: Target,
    store: Store | None = None,
    tell: Tell = quiet,
) -> Latencies:
    """The time of each layer's kernel at each width, on one thread of this machine.

    graphs: the integer graph with all layers at one width, for each width.
    store:  times by kernel: what the code of a kernel depends on, the processor, the compilers,
            and the source of the kernels. The least time of SESSIONS processes counts; after that a
            kernel is not compiled again. By default a folder of the user's cache.

    Errors: LowerError for a machine that is not this one.
    """
    verdict = runs(machine, cpu_flags())
    if verdict != "yes":
        raise LowerError(
            f"latency on {machine.name}: this machine cannot run it ({verdict}), a target that"
            " runs here is needed",
            hint="limits on size or bops need no measurement",
        )
    cache = store or Store(cache_folder())
    programs = {}
    for at, (bits, graph) in enumerate(graphs.items()):
        tell("latency", at, len(graphs))
        programs[bits] = _timed(graph, machine, cache)
    tell("latency", len(graphs), len(graphs))
    times = {
        name: {bits: _of_layer(name, steps) for bits, steps in programs.items()} for name in layers
    }
    widest = max(graphs)
    names = {f"{name}_acc" for name in times}
    rest = sum(t for step, t in programs[widest] if not names & set(map(_plain, step.ops)))
    return Latencies(times, rest)


def cache_folder() -> Path:
    """The folder of measured times, shared by all runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "qir" / "latency"


def _plain(name: str) -> str:
    """An accumulator's name without the suffix that makes it unique."""
    return name.rstrip("_")


def _of_layer(name: str, steps: list[tuple[Step, float]]) -> float:
    return sum(t for step, t in steps if f"{name}_acc" in map(_plain, step.ops))


def _timed(graph: Graph, machine: Target, store: Store) -> list[tuple[Step, float]]:
    """Every step of the graph's program with its microseconds; builds it if one is not cached."""
    programs = variants.lower_all(graph, machine, "latency")
    keys = [[_key(program, step, machine) for step in program.steps] for program in programs]
    for program, step_keys in zip(programs[::-1], keys[::-1], strict=True):
        entries = [_entry(store, key) for key in step_keys]
        if all(entry.is_settled for entry in entries):
            return [(s, e.micros) for s, e in zip(program.steps, entries, strict=True)]
    at, medians = _profiled(graph, machine)
    best: dict[str, float] = {}  # one kernel may run in several steps: all of one time
    for key, micros in zip(keys[at], medians, strict=True):
        best[key] = min(micros, best.get(key, micros))
    for key, micros in best.items():
        entry = _entry(store, key)
        best[key] = min(micros, entry.micros)
        if key not in _TIMED_HERE:
            entry = replace(entry, sessions=entry.sessions + 1)
            _TIMED_HERE.add(key)
        result = {"micros": np.array(best[key]), "sessions": np.array(entry.sessions)}
        store.put(key, result)
    return [(s, best[key]) for s, key in zip(programs[at].steps, keys[at], strict=True)]


@dataclass(frozen=True)
class _Entry:
    """The least microseconds of a kernel in so many sessions."""

    micros: float = float("inf")
    sessions: int = 0
    is_of_this_session: bool = False

    @property
    def is_settled(self) -> bool:
        return self.is_of_this_session or self.sessions >= SESSIONS


_TIMED_HERE: set[str] = set()
"""Keys of the kernels that this process timed."""


def _entry(store: Store, key: str) -> _Entry:
    result = store.get(key)
    if result is None:
        return _Entry()
    return _Entry(float(result["micros"]), int(result["sessions"]), key in _TIMED_HERE)


def forget_times() -> None:
    """Delete the cached times of the user: the next measurement starts from scratch."""
    for file in cache_folder().glob("*.npz"):
        file.unlink(missing_ok=True)
    _TIMED_HERE.clear()


def _profiled(graph: Graph, machine: Target) -> tuple[int, list[float]]:
    """Which variant ran, and the microseconds of its steps."""
    with TemporaryDirectory(prefix="qir-") as home, translated():
        folder = artifact.build(graph, machine, "latency").save(Path(home) / "latency.qir")
        session = opened(read(folder))
        inputs = [stored(port) for port in session.inputs]
        rounds = []
        for _ in range(ROUNDS):
            each = [[t for _, t in session.profile(*inputs)] for _ in range(PROFILES)]
            rounds.append(np.median(each, axis=0))
        names = [v.name for v in machine.variants]
        at = names.index(str(session.variant)) if names else 0
    return at, (np.min(rounds, axis=0) / 1000).tolist()


def _key(program: LoweredProgram, step: Step, machine: Target) -> str:
    kernel = f"{step.units} {program.codes[step.symbol]!r}"
    return f"{processor()} {machine.name} {compilers(machine)} {source('qir.backends')} {kernel}"


@cache
def compilers(machine: Target) -> str:
    """The versions of what makes the code of kernels: TVM with its LLVM, and a C compiler for C."""
    versions = [f"tvm {version('apache-tvm')}"]
    if generator_of(machine).is_text:
        versions.append(link.version(link.toolchain(machine), Path(tempfile.gettempdir())))
    return " ".join(versions)


@cache
def processor() -> str:
    """The names, or on ARM the numbers, of this machine's cores, and their features."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return f"{cores(text) or platform.processor()} {' '.join(sorted(cpu_flags()))}"


def cores(cpuinfo: str) -> str:
    """Each kind of core that /proc/cpuinfo lists: ARM names no model, but parts by number."""
    kinds: dict[str, None] = {}
    for block in cpuinfo.split("\n\n"):
        fields = dict(line.split(":", 1) for line in block.splitlines() if ":" in line)
        values = {name.strip(): value.strip() for name, value in fields.items()}
        kind = values.get("model name") or " ".join(
            f"{name.removeprefix('CPU ')}={value}" for name, value in values.items()
            if name.startswith("CPU ")
        )  # fmt: skip
        if kind:
            kinds[kind] = None
    return ", ".join(kinds)
