"""ONNX Runtime's static int8 of a torch module: matrix products alone, a scale for each channel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from qir.ir.types import Array

KINDS = ["MatMul", "Gemm"]


def outputs(module: Any, calibration: tuple[Array, ...], inputs: tuple[Array, ...]) -> Array | None:
    """The first output of all inputs, one at a time; None where torch cannot export the module."""
    with tempfile.TemporaryDirectory() as folder:
        floats, ready, integers = (Path(folder) / f"{n}.onnx" for n in ("float", "ready", "int8"))
        example = tuple(torch.from_numpy(x[:1]) for x in calibration)
        names = [f"x{i}" for i in range(len(example))]
        try:
            torch.onnx.export(module, example, str(floats), input_names=names, dynamo=False)
        except torch.onnx.errors.OnnxExporterError:
            return None
        quant_pre_process(str(floats), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready), str(integers), Feeds(names, calibration), per_channel=True,
            op_types_to_quantize=KINDS,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(str(integers), providers=["CPUExecutionProvider"])
        runs = [session.run(None, feed)[0] for feed in feeds(names, inputs)]
    return np.concatenate(runs)


def feeds(names: list[str], arrays: tuple[Array, ...]) -> Iterator[dict[str, Array]]:
    for i in range(len(arrays[0])):
        yield {name: x[i : i + 1] for name, x in zip(names, arrays, strict=True)}


class Feeds(CalibrationDataReader):  # type: ignore[misc]
    """What ONNX Runtime calibrates with."""

    def __init__(self, names: list[str], arrays: tuple[Array, ...]) -> None:
        self.left = feeds(names, arrays)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)
