"""Arrays for the inputs of a model, by position or by name."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qir.ir.errors import DataError

UNNAMED = re.compile(r"arr_\d+")  # as np.savez names arrays that have no name
KINDS = (list, tuple, Mapping)  # of arrays for several inputs
HINT = "FILE.npz:a,b takes the arrays a and b as the inputs, in this order"


def in_order(batch: Any, names: Sequence[str], where: str) -> tuple[Any, ...]:
    """The arrays of one batch in the order of the inputs called `names`.

    batch: an array, a sequence of arrays in order, or a mapping from names of inputs to arrays. A
           mapping may hold more than the inputs (labels); keys arr_0, arr_1 count as positions.

    Errors: DataError for a mapping that does not name every input.
    """
    if isinstance(batch, Mapping):
        return assigned(batch, (), names, where)
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def assigned(
    by_name: Mapping[str, Any], unnamed: Iterable[Any], names: Sequence[str], where: str
) -> tuple[Any, ...]:
    """An array for each input: those with the input's name first, the unnamed ones fill the rest.

    Errors: DataError for arrays of other names, or of another number.
    """
    if faults := [k for k in by_name if not isinstance(k, str)]:
        raise DataError(f"{where}: array called {faults[0]!r}, the name of an input is needed")
    positions = sorted((k for k in by_name if UNNAMED.fullmatch(k)), key=lambda k: int(k[4:]))
    inputs_by_name = {k: x for k, x in by_name.items() if k not in positions}
    rest = [*unnamed, *(by_name[k] for k in positions)]
    if len(names) == len(inputs_by_name) == 1 and not rest:
        return tuple(inputs_by_name.values())
    keys = {name: k for name in names if (k := _key(name, inputs_by_name)) is not None}
    fill = iter(rest)
    missing = len(names) - len(keys)
    others = [k for k in inputs_by_name if k not in keys.values()]
    if len(rest) != missing or (others and missing):
        inputs = f"{len(names)} are needed: {', '.join(names)}"
        if not inputs_by_name:
            raise DataError(f"{where}: {_count_text(len(rest))}, {inputs}")
        raise DataError(f"{where}: arrays are called {', '.join(by_name)}, {inputs}", HINT)
    return tuple(inputs_by_name[keys[name]] if name in keys else next(fill) for name in names)


def batches_in_order(
    batches: Iterable[Any], names: Sequence[str], where: str = "calibration batch"
) -> Iterator[Any]:
    """Every batch as in_order gives it, lazily; what is no mapping is passed on as it is."""
    for number, batch in enumerate(batches):
        yield in_order(batch, names, f"{where} {number}") if isinstance(batch, Mapping) else batch


def first_batch(calibration: Any) -> tuple[Any, Iterator[Any] | None]:
    """The first batch, and all the batches; an array or a mapping alone is one batch.

    Errors: DataError for anything but arrays in batches, and for no batch.
    """
    if calibration is None:
        return None, None
    if isinstance(calibration, (str, Path)) or not isinstance(calibration, Iterable):
        raise DataError(
            f"calibration: {type(calibration).__name__} given, an array or batches of arrays are"
            " needed",
            "numpy.load reads arrays from files",
        )
    is_batch = _is_array(calibration) or isinstance(calibration, Mapping)
    batches = iter([calibration] if is_batch else calibration)
    first = next(batches, None)
    if first is None:
        raise DataError("calibration: no batch, at least one is needed")
    return first, itertools.chain([first], batches)


def examples(
    model: Any, inputs: Any, first: Any, batch: int | None
) -> Sequence[Any] | Mapping[str, Any] | None:
    """Example inputs of a torch module: `inputs`, or else samples of the first calibration batch.

    With `batch`, or without `inputs`, that many samples (1), repeated where there are fewer.
    Errors: DataError for arrays that forward does not take, or of no common batch size.
    """
    if inputs is None and first is None:
        return None
    if not (inputs is None or _is_array(inputs) or isinstance(inputs, (list, tuple))):
        raise DataError(
            f"inputs: {type(inputs).__name__} given, a tensor or a list of tensors is needed"
        )
    if batch is None and inputs is not None:
        return [inputs] if _is_array(inputs) else list(inputs)
    where, names = "calibration batch 0" if inputs is None else "inputs", _arguments(model)
    source = first if inputs is None else inputs
    if names is None and isinstance(source, Mapping):
        return None  # an exported program has examples of its own
    arrays = in_order(source, names or (), where)
    if names is not None and len(arrays) > len(names):
        raise DataError(
            f"{where}: {len(arrays)} arrays, forward of {type(model).__name__} takes {len(names)}:"
            f" {', '.join(names)}",
            "of a loader of (input, label) pairs, give (x for x, _ in loader)",
        )
    return _samples(arrays, batch, where)


def _samples(arrays: Sequence[Any], batch: int | None, where: str) -> Sequence[Any]:
    """The first `batch` samples of arrays whose first axes agree; others are one sample."""
    sizes = []
    for array in arrays:
        if not _is_array(array):
            raise DataError(f"{where}: {type(array).__name__} given, an array is needed")
        sizes.append(len(array) if array.shape else 0)
    if empty := [a for a in arrays if a.shape and not len(a)]:
        raise DataError(f"{where}: shape {list(empty[0].shape)}, one sample is needed")
    if len(set(sizes)) == 1 and sizes[0]:
        indices = [i % sizes[0] for i in range(batch or 1)]
        try:
            return [array[indices] for array in arrays]
        except (RuntimeError, TypeError, IndexError) as e:
            raise DataError(
                f"{where}: its samples cannot be selected ({_first_sentence(e)}), dense arrays are"
                " needed"
            ) from e
    if batch is not None:
        raise DataError(
            f"batch {batch}: inputs start with sizes {sorted(set(sizes))}, one batch size is needed"
        )
    return arrays


def _arguments(model: Any) -> list[str] | None:
    """The names of the inputs that forward takes by position; None where they are not known."""
    if not hasattr(model, "forward"):
        return None
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except ValueError:  # TorchScript's have none
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in by_position]


def _key(name: str, arrays: Mapping[str, Any]) -> str | None:
    """The key of the input `name`; files in .npz have _ for / (they are members of a zip)."""
    plain = name.replace("/", "_").replace("\\", "_")
    return name if name in arrays else plain if plain in arrays else None


def _is_array(x: Any) -> bool:
    """Whether it has a shape. Errors: DataError for a tensor of torch that is nested."""
    try:
        return hasattr(x, "shape")
    except RuntimeError as e:
        raise DataError(
            f"a nested {type(x).__name__}: its samples have shapes of their own, one shape for all"
            " is needed"
        ) from e


def _first_sentence(e: Exception) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0].partition(". ")[0]


def _count_text(n: int) -> str:
    return f"{n} array" if n == 1 else f"{n} arrays"
