"""Models that ONNX Runtime's quantizer makes of the zoo, and how often their labels agree.

    python -m tests.frontends.onnx.labels resnet20 squeezenet --form qdq --inputs 300 --calibrate 32

For each pair of: qir's integers, qir's imported graph in floats, ONNX Runtime, ONNX Runtime with
its optimizer off (the meaning of the file): on how many inputs the labels are the same, and on how
many they are, or are tied: one's label is among the equal greatest outputs of the other.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

import qir
from qir.frontends.onnx import import_onnx
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from tests.frontends.onnx.models import one_thread

FORMS = ("qdq", "operators", "dynamic")
Run = Callable[[Array], Array]


def quantized(case: Any, folder: Path, form: str, calibrate: int = 8) -> Path:
    """The case's model with u8 activations and i8 weights per channel, as a file in `folder`."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed

    calibration = case.calibration()[:calibrate]
    plain = onnx.load(case.model)
    constants = {t.name for t in plain.graph.initializer}
    fed = next(i.name for i in plain.graph.input if i.name not in constants)
    make_input_shape_fixed(plain.graph, fed, [1, *calibration.shape[1:]])
    fixed, ready, made = (folder / f"{case.name}.{what}.onnx" for what in ("fixed", "ready", form))
    onnx.save(plain, fixed)
    if form == "dynamic":
        quantize_dynamic(fixed, made)
        return made
    quant_pre_process(str(fixed), str(ready), skip_symbolic_shape=True)
    quantize_static(
        ready,
        made,
        _reader(fed, calibration),
        quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return made


def _reader(fed: str, calibration: Array) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Array] = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self.batches, None)
            return None if batch is None else {fed: batch[None]}

    return Reader()


def runtime(path: Path, optimized: bool) -> Run:
    """ONNX Runtime's first output for one input."""
    options = one_thread()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    fed = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {fed: x[None]})[0])


def simulated(path: Path) -> Run:
    """The first output of qir's import, run in torch."""
    program = FloatProgram(import_onnx(path))

    def run(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(program(x[None])[0])

    return run


def integers(path: Path) -> Run:
    """The first output of qir's integer program."""
    net = qir.compile(path)

    def run(x: Array) -> Array:
        y = net(x[None])
        return np.asarray(y[0] if isinstance(y, tuple) else y)

    return run


def outputs(run: Run, inputs: Array) -> Array:
    """(inputs, classes)"""
    return np.stack([run(x).ravel() for x in inputs])


def labels(run: Run, inputs: Array) -> Array:
    return np.asarray(outputs(run, inputs).argmax(1))


def same(a: Array, b: Array) -> int:
    """On how many inputs the labels of two sets of outputs are the same."""
    return int((a.argmax(1) == b.argmax(1)).sum())


def same_or_tied(a: Array, b: Array) -> int:
    """On how many inputs the label of one is among the greatest outputs of the other."""
    each = np.arange(len(a))
    tied = (a[each, b.argmax(1)] == a.max(1)) | (b[each, a.argmax(1)] == b.max(1))
    return int(tied.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--form", choices=FORMS, default="qdq")
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--calibrate", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo = _zoo()
    for name in args.names:
        case = zoo.ZOO[name]
        inputs = case.inputs()[: args.inputs]
        with tempfile.TemporaryDirectory() as folder:
            path = quantized(case, Path(folder), args.form, args.calibrate)
            runs = {
                "imported": simulated(path),
                "runtime": runtime(path, True),
                "plain runtime": runtime(path, False),
            }
            if args.form != "dynamic":  # whose activations have no scales before they are seen
                runs = {"integers": integers(path), **runs}
            labels = {who: outputs(run, inputs) for who, run in runs.items()}
        print(f"{name} {args.form}, of {len(inputs)}:")
        for (one, a), (other, b) in itertools.combinations(labels.items(), 2):
            print(f"  {one}, {other}: same {same(a, b)}, or tied {same_or_tied(a, b)}", flush=True)


def _zoo() -> ModuleType:
    beside = Path(__file__).resolve().parents[4] / "shared" / "zoo"
    file = Path(os.environ.get("QIR_ZOO", beside)) / "zoo.py"
    spec = importlib.util.spec_from_file_location("zoo", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules["zoo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
