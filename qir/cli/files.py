"""Arrays in files: calibration data and inputs in .npy, .npz or folders of them; outputs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from qir.inputs import UNNAMED, assigned
from qir.ir.errors import DataError
from qir.ir.text.file import write_whole
from qir.ir.types import Array

KINDS = (".npy", ".npz")
Batch = Array | tuple[Array, ...] | Mapping[str, Array]


def read_batch(name: str) -> Batch:
    """The arrays of a file: one of .npy, or all of .npz by their names.

    `file.npz:x,mask` selects arrays and fixes their order: a tuple.
    Errors: DataError when the file is missing, damaged, or lacks an array that is named.
    """
    path, keys = Path(name), ""
    if not path.exists() and ":" in name:
        stem, _, keys = name.rpartition(":")
        path = Path(stem)
    arrays = _read(path)
    if not keys:
        return arrays if path.suffix == ".npz" else arrays[path.stem]
    names = keys.split(",")
    if missing := [key for key in names if key not in arrays]:
        raise DataError(
            f"{path}: no array {missing[0]!r}, one of {', '.join(sorted(arrays))} is needed"
        )
    return tuple(arrays[key] for key in names)


def read_batches(name: str) -> Iterator[Batch]:
    """Calibration data: the samples of one file, or the files of a folder as batches, one by one.

    Errors: DataError as of read_batch, or when a folder has no such file.
    """
    folder = Path(name)
    if not folder.is_dir():
        return iter([read_batch(name)])
    files = sorted(f for f in folder.iterdir() if f.suffix in KINDS and f.is_file())
    if not files:
        raise DataError(f"{folder}: no .npy or .npz file in it, one or more are needed")
    return (read_batch(str(file)) for file in files)


def read_inputs(files: Sequence[str], names: Sequence[str]) -> tuple[Array, ...]:
    """An array for each input called `names`: arrays of .npz by name, the others by position.

    Errors: DataError as of read_batch, for a name in two files, and for arrays that do not fit.
    """
    by_name: dict[str, Array] = {}
    unnamed: list[Array] = []
    for file in files:
        match read_batch(file):
            case dict() as arrays:
                positions = sorted(filter(UNNAMED.fullmatch, arrays), key=lambda key: int(key[4:]))
                unnamed.extend(arrays.pop(key) for key in positions)
                if repeats := sorted(arrays.keys() & by_name):
                    raise DataError(
                        f"{file}: array {repeats[0]!r} is in another --input too, one is needed"
                    )
                by_name |= arrays
            case tuple() as arrays:
                unnamed.extend(arrays)
            case array:
                unnamed.append(np.asarray(array))
    return assigned(by_name, unnamed, names, f"--input {' '.join(files)}")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write one array to .npy, or any number to .npz, completely or not at all.

    Errors: DataError for another ending, or several arrays and .npy.
    """
    out = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(out, **{_member(name): array for name, array in arrays.items()})  # type: ignore[arg-type]
    elif path.suffix == ".npy" and len(arrays) == 1:
        np.save(out, next(iter(arrays.values())))
    else:
        suffixes = ".npz" if len(arrays) > 1 else ".npy or .npz"
        raise DataError(f"{path}: {len(arrays)} outputs to write, a name in {suffixes} is needed")
    write_whole(path, out.getvalue())


def _member(name: str) -> str:
    """The name of a zip's member: no folders."""
    return name.replace("/", "_").replace("\\", "_")


def _read(path: Path) -> dict[str, Array]:
    if path.suffix not in KINDS:
        raise DataError(f"{path}: a file in .npy or .npz, or a folder of them, is needed")
    try:
        if path.exists() and not path.is_file():  # a named pipe would never end
            raise DataError(f"{path}: no regular file, one in .npy or .npz is needed")
        with path.open("rb") as f:
            content = np.load(f, allow_pickle=False)
            arrays = (
                dict(content) if isinstance(content, np.lib.npyio.NpzFile) else {path.stem: content}
            )
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, SyntaxError) as e:
        reason = "it holds Python objects, which are never loaded" if "pickle" in str(e) else e
        raise DataError(f"{path}: damaged or no arrays of numbers ({reason})") from e
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise DataError(f"{path}: {key} holds {array.dtype}, numbers are needed")
    if not arrays:
        raise DataError(f"{path}: empty, one array or more is needed")
    return arrays
