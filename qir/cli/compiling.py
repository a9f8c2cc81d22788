"""The commands compile and compile-lm."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import qir
from qir.backends.artifact.folder import check_free
from qir.cli.console import lines, progress
from qir.cli.files import Batch, read_batches
from qir.ir.errors import DataError, FrontendError, PassError
from qir.ir.types import Array
from qir.net import Net
from qir.report.numbers import memory
from qir.report.terminal import summary

CONVERTERS = {
    ".pt": "in Python, qir.compile takes the torch module itself",
    ".pth": "in Python, qir.compile takes the torch module itself",
    ".pt2": "in Python, qir.compile takes the result of torch.export.load",
    ".tflite": "tf2onnx converts it: python -m tf2onnx.convert --tflite IN --output OUT.onnx",
    ".h5": "tf2onnx converts it: python -m tf2onnx.convert --keras IN --output OUT.onnx",
    ".keras": "tf2onnx converts it: python -m tf2onnx.convert --keras IN --output OUT.onnx",
}
LANGUAGE = (".onnx", ".qir", ".pt2", ".gguf")  # of files that compile-lm reads


def compile_model(options: Namespace) -> None:
    """Compile a model file to an artifact folder."""
    _check_model(options.model)
    output = _output(options)
    with progress() as tell:
        net = qir.compile(
            options.model,
            calibration=read_batches(options.calibration) if options.calibration else None,
            batch=options.batch,
            skip=options.skip,
            progress=tell,
            **_shared(options),
        )
    _write_net(net, output)


def compile_language_model(options: Namespace) -> None:
    """Compile a language model to an artifact folder."""
    _check_language_model(options.model)
    if options.skip is not None and options.decode_skip is not None:
        raise PassError("--decode-skip: given with --skip, one of them is needed")
    output = _output(options)
    skip = options.skip if options.decode_skip is None else qir.DecodeSkip(options.decode_skip)
    with progress() as tell:
        net = qir.compile_lm(
            options.model,
            calibration=_ids(options.calibration),
            max_tokens=options.max_tokens,
            prefill=options.prefill,
            skip=skip,
            progress=tell,
            **_shared(options),
        )
    _write_net(net, output)


def _output(options: Namespace) -> Path:
    """The folder of the artifact. Errors: ArtifactError where it is not free."""
    output: Path = options.output or Path(f"{options.model.resolve().stem}.qir")
    check_free(output)  # before the work, not after it
    if options.fresh:
        from qir.measure.latency import forget_times  # torch, which other commands do without

        forget_times()
    return output


def _shared(options: Namespace) -> dict[str, Any]:
    """The arguments that both ways to compile have."""
    return {
        "target": options.target,
        "bits": _bits(options),
        "rounding": _rounding(options),
        "shapes": dict(options.shape) or None,
        "name": options.name,
        "observer": options.observer,
        "scales": options.scales,
        "outliers": None if options.outliers == "none" else options.outliers,
        "kv": options.kv,
        "concurrency": options.concurrency,
        "state": options.state,
        "check": options.check,
    }


def _write_net(net: Net, output: Path) -> None:
    """Write the artifact, and say what was made."""
    net.save(output)
    report = net.report()
    notes = Counter(note.partition(":")[0] for note in report.notes)
    lines(
        f"{report.name} for {report.machine}: {summary(report)}",
        f"integer only: {report.proofs.integer_only}",
        f"no overflow: {report.proofs.overflow_claims} intermediates stay within their bits",
        *(f"{name}: {count} changes" for name, count in notes.items()),
        *report.treatments(),
        f"memory: {memory(report.sizes)}",
        f"written to {output}; details: qir report {output}",
    )


def _check_model(model: Path) -> None:
    """Errors: DataError for a path that is no file, FrontendError for a format that is not read."""
    _check_no_artifact(model)
    if not model.is_file():
        fault = "no file" if model.exists() else "no such file"
        raise DataError(f"{model}: {fault}, a model is needed")
    if hint := CONVERTERS.get(model.suffix):
        raise FrontendError(f"{model}: a {model.suffix} file, .onnx or .qir is needed", hint)


def _check_language_model(model: Path) -> None:
    """Errors: DataError for a path that is neither a file nor the folder of a checkpoint,
    FrontendError for a format that is not read.
    """
    _check_no_artifact(model)
    if not model.exists():
        raise DataError(f"{model}: no such file, a model is needed")
    if model.is_file() and model.suffix not in LANGUAGE:
        raise FrontendError(
            f"{model}: a file in {model.suffix or 'no known format'}, a Hugging Face folder or"
            f" {', '.join(LANGUAGE)} is needed",
            CONVERTERS.get(model.suffix, "").replace("qir.compile ", "qir.compile_lm ") or None,
        )


def _check_no_artifact(model: Path) -> None:
    if (model / "manifest.json").exists():
        raise DataError(
            f"{model}: an artifact, a model is needed", "qir run or qir report takes an artifact"
        )


def _ids(name: str) -> Array:
    """The token ids of a file, or of all files of a folder, one after the other, (1, N).

    Errors: DataError as of read_batches, for several arrays in a file, and for what are no ids.
    """
    arrays = [_only(batch, name) for batch in read_batches(name)]
    if faults := [a for a in arrays if a.dtype.kind not in "iu"]:
        raise DataError(
            f"{name}: {faults[0].dtype}{list(faults[0].shape)}, integer token ids are needed"
        )
    return np.concatenate([array.reshape(1, -1) for array in arrays], axis=1)


def _only(batch: Batch, name: str) -> Array:
    match batch:
        case Mapping():
            arrays = list(batch.values())
        case tuple():
            arrays = list(batch)
        case _:
            arrays = [np.asarray(batch)]
    if len(arrays) != 1:
        raise DataError(
            f"{name}: {len(arrays)} arrays in a file, one of token ids is needed",
            "FILE.npz:ids takes the array ids",
        )
    return arrays[0]


def _rounding(options: Namespace) -> Any:
    """The rounding method, in as many waves as --waves says."""
    if options.waves is None:
        return options.rounding
    if options.rounding is None:
        raise PassError("--waves: given without --rounding, a method is needed")
    from qir.passes.rounding import method_of  # torch, which other commands do without
    from qir.passes.rounding.base import RoundWeights

    return [
        replace(method, waves=options.waves) if isinstance(method, RoundWeights) else method
        for method in method_of(options.rounding)
    ]


def _bits(options: Namespace) -> Any:
    """The bits of --bits, with the limits of mixed precision.

    Errors: DataError for a limit without --bits mixed.
    """
    names = ("size", "bops", "latency", "size_bytes", "latency_us", "weight_bits",
             "activation_bits", "choices", "ends", "measure")  # fmt: skip
    limits = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.bits != "mixed":
        if limits:
            option = next(iter(limits)).replace("_", "-")
            raise DataError(f"--{option}: given with --bits {options.bits}, --bits mixed is needed")
        return options.bits
    if "choices" in limits:
        limits["choices"] = tuple(limits["choices"].split(","))
    if limits.get("ends") == "none":
        limits["ends"] = None
    return qir.MixedPrecision(**limits)
