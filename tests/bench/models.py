"""The zoo's models, compiled once for each state of the source: what bench and accuracy run."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

import qir
from qir.frontends.onnx import import_onnx
from qir.ir.graph import Graph
from qir.ir.text.file import load_graph, save_graph
from qir.passes import pipelines
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.transform.channel_ranges import first_samples
from tests.tree import FOLDERS, ROOT

CACHE = ROOT / ".bench"
LANGUAGE = ("stories260k", "shakespeare12")  # token inputs: not compiled to integers yet


def zoo_module(name: str = "zoo") -> ModuleType:
    """zoo.py, or peers.py beside it: from $QIR_ZOO, or ../shared/zoo beside the checkout."""
    folder = Path(os.environ.get("QIR_ZOO") or ROOT.parent / "shared" / "zoo")
    file = folder / f"{name}.py"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise SystemExit(
            f"error: {file}: no such file\nhint: set QIR_ZOO to the model zoo's folder"
        )
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(wanted: list[str]) -> list[str]:
    """The zoo's names that were asked for; all that qir compiles when none was."""
    known = [name for name in zoo_module().ZOO if name not in LANGUAGE]
    if unknown := [name for name in wanted if name not in zoo_module().ZOO]:
        raise SystemExit(f"error: model {unknown[0]}: not in the zoo\nhint: {', '.join(known)}")
    return wanted or known


def source_hash(without: tuple[str, ...] = ()) -> str:
    """SHA-256 of all that decides what is compiled: qir's own files, but those of some packages."""
    total = hashlib.sha256()
    for file in sorted(_sources(without)):
        total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def _sources(without: tuple[str, ...]) -> Iterator[Path]:
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*") if package not in without else ():
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compiled(name: str, **options: object) -> tuple[Path, float]:
    """The artifact of a model of the zoo, and the seconds it took: 0 when it was there already.

    `options` go to qir.compile; older artifacts of the same model and options are removed.
    """
    case = zoo_module().ZOO[name]
    said = "-".join(f"{k}={v}" for k, v in sorted(options.items()))
    stem = "-".join(filter(None, (name, said)))
    key = hashlib.sha256(f"{digest(case.model)} {source_hash()} {said}".encode()).hexdigest()[:16]
    folder = CACHE / f"{stem}.{key}.qir"
    if folder.is_dir():
        return folder, 0.0
    CACHE.mkdir(exist_ok=True)
    for old in CACHE.glob(f"{stem}.*.qir"):
        shutil.rmtree(old, ignore_errors=True)
    start = time.perf_counter()
    qir.compile(case.model, calibration=case.calibration(), name=name, **options).save(folder)  # type: ignore[arg-type]
    return folder, time.perf_counter() - start


def integer_graph(name: str, bits: int = 8) -> Graph:
    """A model of the zoo as the integers that any target runs; kept while no pass changes."""
    case = zoo_module().ZOO[name]
    source = source_hash(without=("qir.backends", "qir.runtime"))
    key = hashlib.sha256(f"{digest(case.model)} {source} {bits}".encode()).hexdigest()[:16]
    file = CACHE / f"{name}-integer-{bits}.{key}.qir"
    if not file.is_file():
        CACHE.mkdir(exist_ok=True)
        for old in CACHE.glob(f"{name}-integer-{bits}.*"):
            old.unlink(missing_ok=True)
        save_graph(_quantized(case.model, case.calibration(), bits), file)
    return load_graph(file)


def _quantized(model: Path, calibration: np.ndarray, bits: int) -> Graph:
    """What qir.compile makes of a model before it builds kernels."""
    manager = Manager()
    graph = manager.run(import_onnx(model), pipelines.CANONICALIZE)
    sample, batches = first_samples(graph, [calibration])
    graph = manager.run(graph, pipelines.transform(graph, sample))
    pairs = pipelines.quantize(
        calibrate(graph, batches), Bits(bits, bits), reference=graph, sample=sample
    )
    return manager.run(manager.run(graph, pairs), pipelines.TO_INTEGER)
