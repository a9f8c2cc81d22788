"""The plain arguments of compile, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from qir.ir.errors import DataError, PassError
from qir.passes.infra.manager import Pass
from qir.passes.quantize.place_rows import Scales
from qir.passes.transform.outliers.methods import Outliers

MOST_BATCH = 1 << 20  # samples of one call


def check_batch(batch: Any) -> None:
    """Errors: DataError for a batch that is neither None nor a count of samples."""
    if batch is not None and (type(batch) is not int or not 1 <= batch <= MOST_BATCH):
        raise DataError(f"batch: {batch!r} given, an integer from 1 to {MOST_BATCH} is needed")


def check_shapes(shapes: Any) -> None:
    """Errors: DataError for anything but None or a mapping from names to sequences of sizes."""
    if shapes is None:
        return
    if not isinstance(shapes, Mapping):
        raise DataError(f"shapes: {shapes!r} given, a mapping from inputs to shapes is needed")
    for name, shape in shapes.items():
        is_shape = isinstance(shape, Sequence) and all(type(n) is int and n > 0 for n in shape)
        if not isinstance(name, str) or not is_shape:
            raise DataError(
                f"shapes: {name!r}: {shape!r} given, an input's name and positive sizes are needed",
                "as in shapes={'x': (1, 3, 224, 224)}",
            )


def check_options(name: Any, executor: Any, passes: Any, progress: Any) -> None:
    """Errors: DataError for a name, an executor or a progress callback that is none; PassError
    for `passes` that are no sequence of passes.
    """
    if name is not None and not isinstance(name, str):
        raise DataError(f"name: {name!r} given, a text is needed")
    if executor is not None and not (
        isinstance(executor, Executor) or callable(getattr(executor, "submit", None))
    ):
        raise DataError(f"executor: {executor!r} given, a concurrent.futures.Executor is needed")
    if progress is not None and not callable(progress):
        raise DataError(f"progress: {progress!r} given, a function is needed")
    if not isinstance(passes, Sequence) or not all(isinstance(one, Pass) for one in passes):
        raise PassError(
            f"passes: {passes!r} given, a sequence of passes is needed",
            "as in passes=[FoldConstants()], the passes themselves and not their names",
        )


def scales_of(scales: Any) -> Scales:
    """Errors: DataError for what names no way of choosing the scales of linear ops' inputs."""
    try:
        return Scales(scales)
    except ValueError as e:
        choices = ", ".join(one.value for one in Scales)
        raise DataError(f"scales: {scales!r} given, one of {choices} is needed") from e


def outliers_of(outliers: Any) -> Outliers | None:
    """Errors: DataError for what names no way of treating outliers."""
    try:
        return None if outliers is None else Outliers(outliers)
    except ValueError as e:
        choices = ", ".join(one.value for one in Outliers)
        raise DataError(f"outliers: {outliers!r} given, one of {choices} or None is needed") from e


def state_folder(state: Any) -> Path | None:
    """The folder of intermediate results; it is made if it is missing.

    Errors: DataError for what is no path, no folder, or cannot be made.
    """
    if state is None:
        return None
    if not isinstance(state, (str, os.PathLike)):
        raise DataError(f"state: {state!r} given, the path of a folder is needed")
    folder = Path(state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as e:
        raise DataError(f"state {folder}: not a folder, a folder or a free path is needed") from e
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        raise DataError(
            f"state {folder}: cannot be made ({reason}), a folder that can be written is needed"
        ) from e
    return folder
