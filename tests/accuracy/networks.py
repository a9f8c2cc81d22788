"""Networks of the zoo: the metric of each in float and in integers, and how far outputs agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import qir
from qir.ir.interpret import interpret, quantize_inputs
from qir.net import Net
from tests.bench.models import compiled, zoo_module

Outputs = list[np.ndarray]


HEADS = ("metric", "inputs", "float", "integer", "change", "same class", "cosine", "same bits")


def measured(name: str, bits: int, observer: str, exact: int) -> dict[str, Any]:
    """The metric in float and in integers, and how far the outputs agree."""
    case = zoo_module().ZOO[name]
    folder, seconds = compiled(name, bits=bits, observer=observer)
    net, x = qir.load(folder), case.inputs()
    floats, integers = run_float(case.model, x), run_integers(net, x)
    return {
        "model": name,
        "metric": case.metric,
        "inputs": len(x),
        "float": case.score(floats[0]),
        "integer": case.score(integers[0]),
        "same_class": same_class(floats[0], integers[0]),
        "cosine": min(cosine(a, b) for a, b in zip(floats, integers, strict=True)),
        "same_bits": f"{same_bits(net, x[:exact])} of {len(x[:exact])}" if exact else "",
        "compile_seconds": round(seconds, 1),
    }


def run_float(model: Path, x: np.ndarray) -> Outputs:
    """All outputs of all inputs by ONNX Runtime, one input at a time."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return joined([session.run(None, {name: sample[None]}) for sample in x])


def run_integers(net: Net, x: np.ndarray) -> Outputs:
    runs = []
    for sample in x:
        y = net(sample[None])
        runs.append(y if isinstance(y, tuple) else (y,))
    return joined(runs)


def joined(runs: Sequence[Sequence[np.ndarray]]) -> Outputs:
    return [np.concatenate(ys) for ys in zip(*runs, strict=True)]


def same_class(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.count_nonzero(_class(a) == _class(b)))


def _class(y: np.ndarray) -> np.ndarray:
    return y.reshape(len(y), -1).argmax(1)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of all inputs at once."""
    wide_a, wide_b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(wide_a @ wide_b / np.sqrt((wide_a @ wide_a) * (wide_b @ wide_b)))


def same_bits(net: Net, x: np.ndarray) -> int:
    """On how many inputs the artifact gives the interpreter's integers."""
    graph, same = net.stages["integer"], 0
    for sample in x:
        stored = quantize_inputs(graph, [sample[None]])
        expected, have = interpret(graph, stored), net.run_integer(*stored)
        have = have if isinstance(have, tuple) else (have,)
        same += all(np.array_equal(a, b) for a, b in zip(expected, have, strict=True))
    return same


def cells(found: dict[str, Any]) -> list[str]:
    is_percent = "%" in found["metric"]
    digits = 2 if is_percent else 4
    change = found["integer"] - found["float"]
    same = f"{found['same_class']} of {found['inputs']}" if is_percent else "-"
    return [
        found["model"], found["metric"], str(found["inputs"]), f"{found['float']:.{digits}f}",
        f"{found['integer']:.{digits}f}", f"{change:+.{digits}f}", same,
        f"{found['cosine']:.5f}", found["same_bits"] or "-",
    ]  # fmt: skip
