"""Networks of the zoo as integer graphs, quantized once and kept beside pytest's cache."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from qir.frontends.onnx import import_onnx
from qir.ir.graph import Graph
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.text.file import load_graph, save_graph
from qir.ir.types import Array
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE, TO_INTEGER, quantize, transform
from qir.passes.transform.channel_ranges import first_samples
from tests.tree import FOLDERS

SAMPLES = 8  # to calibrate on: the ranges need not be the best ones here


@dataclass(frozen=True)
class Network:
    """An integer graph of batch 1, stored inputs from the evaluation data, and the outputs."""

    graph: Graph
    cases: tuple[list[Array], ...]
    wanted: tuple[tuple[Array, ...], ...]


def network(zoo: ModuleType, name: str, count: int, folder: Path) -> Network:
    """The network `name` with `count` inputs; `folder` keeps it for other tests and other runs."""
    case = zoo.ZOO[name]
    stem = folder / f"{name}-{count}-{_key(case.model)}"
    with _locked(stem.with_suffix(".lock")):
        graph_file, arrays_file = stem.with_suffix(".qir"), stem.with_suffix(".npz")
        if not arrays_file.exists():
            for old in set(folder.glob(f"{name}-{count}-*")) - {stem.with_suffix(".lock")}:
                old.unlink()
            graph = quantized(case.model, case.calibration()[:SAMPLES])
            save_graph(graph, graph_file)
            arrays = _computed(graph, case.inputs()[:count])
            part = stem.with_suffix(".part.npz")
            np.savez(part, **arrays)
            part.rename(arrays_file)
        graph = load_graph(graph_file)
        with np.load(arrays_file) as held:
            rows = [
                [[held[f"{kind}{i}_{k}"] for k in range(len(values))] for i in range(count)]
                for kind, values in (("x", graph.inputs), ("y", graph.outputs))
            ]
    return Network(graph, tuple(rows[0]), tuple(map(tuple, rows[1])))


def quantized(model: Path, samples: Array) -> Graph:
    """An ONNX model as an 8-bit integer graph."""
    manager = Manager()
    graph = manager.run(import_onnx(model), CANONICALIZE)
    sample, batches = first_samples(graph, samples)
    graph = manager.run(graph, transform(graph, sample))
    pairs = quantize(calibrate(graph, batches), reference=graph, sample=sample)
    return manager.run(manager.run(graph, pairs), TO_INTEGER)


def _computed(graph: Graph, x: Array) -> dict[str, Array]:
    """Stored inputs x0_0, x1_0, ... and the interpreter's outputs y0_0, ... of real inputs."""
    arrays: dict[str, Array] = {}
    for i, sample in enumerate(x):
        stored = quantize_inputs(graph, [sample[None]])
        arrays |= {f"x{i}_{k}": a for k, a in enumerate(stored)}
        arrays |= {f"y{i}_{k}": a for k, a in enumerate(interpret(graph, stored))}
    return arrays


def _key(model: Path) -> str:
    """Of the model and of all source that decides the integer graph."""
    total = hashlib.sha256(model.read_bytes())
    for package in ("qir.frontends", "qir.passes", "qir.ir"):
        home = FOLDERS.get(package, FOLDERS["qir"] / package.rpartition(".")[2])
        for file in sorted(home.rglob("*.py")):
            total.update(file.read_bytes())
    return total.hexdigest()[:16]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One process at a time: several workers want the same network."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
