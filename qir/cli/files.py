"""Arrays in files: calibration data and inputs in .npy, .npz or folders of them; results out."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from qir.ir.errors import DataError
from qir.ir.text.file import write_whole
from qir.ir.types import Array

KINDS = (".npy", ".npz")


def read_arrays(name: str) -> tuple[Array, ...]:
    """The arrays of a .npy or .npz file, in the file's order; `file.npz:x,mask` takes those two.

    Errors: DataError when the file is missing, damaged, or lacks an array that is named.
    """
    path, keys = Path(name), ""
    if not path.exists() and ":" in name:
        stem, _, keys = name.rpartition(":")
        path = Path(stem)
    held = _read(path)
    wanted = keys.split(",") if keys else list(held)
    if missing := [key for key in wanted if key not in held]:
        raise DataError(
            f"{path}: no array {missing[0]!r}, one of {', '.join(sorted(held))} is needed"
        )
    return tuple(held[key] for key in wanted)


def read_batches(name: str) -> Array | Iterator[Array | tuple[Array, ...]]:
    """Calibration data: the samples of one file, or the files of a folder as batches, one by one.

    Several arrays in a file are the model's inputs, in order.
    Errors: DataError as of read_arrays, or when a folder holds no such file.
    """
    folder = Path(name)
    if not folder.is_dir():
        arrays = read_arrays(name)
        return arrays[0] if len(arrays) == 1 else iter([arrays])
    files = sorted(f for f in folder.iterdir() if f.suffix in KINDS and f.is_file())
    if not files:
        raise DataError(f"{folder}: no .npy or .npz file in it, one or more are needed")
    return (_unwrapped(read_arrays(str(file))) for file in files)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write one array to .npy, or any number to .npz, whole or not at all.

    Errors: DataError for another ending, or several arrays and .npy.
    """
    out = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(out, **{_plain(name): array for name, array in arrays.items()})  # type: ignore[arg-type]
    elif path.suffix == ".npy" and len(arrays) == 1:
        np.save(out, next(iter(arrays.values())))
    else:
        needed = ".npz" if len(arrays) > 1 else ".npy or .npz"
        raise DataError(f"{path}: {len(arrays)} outputs to write, a name in {needed} is needed")
    write_whole(path, out.getvalue())


def _plain(name: str) -> str:
    """A member name of a zip: no folders."""
    return name.replace("/", "_").replace("\\", "_")


def _unwrapped(arrays: tuple[Array, ...]) -> Array | tuple[Array, ...]:
    return arrays[0] if len(arrays) == 1 else arrays


def _read(path: Path) -> dict[str, Array]:
    if path.suffix not in KINDS:
        raise DataError(f"{path}: a file in .npy or .npz, or a folder of them, is needed")
    try:
        with path.open("rb") as f:
            content = np.load(f, allow_pickle=False)
            held = (
                dict(content) if isinstance(content, np.lib.npyio.NpzFile) else {path.stem: content}
            )
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, SyntaxError) as e:
        raise DataError(f"{path}: damaged or no arrays of numbers ({e})") from e
    for key, array in held.items():
        if array.dtype.kind not in "fiub":
            raise DataError(f"{path}: {key} holds {array.dtype}, numbers are needed")
    if not held:
        raise DataError(f"{path}: empty, one array or more is needed")
    return held
