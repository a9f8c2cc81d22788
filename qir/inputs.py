"""Arrays for the inputs of a model, by position or by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qir.ir.errors import DataError

UNNAMED = re.compile(r"arr_\d+")  # as np.savez names arrays that have no name
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
    named: Mapping[str, Any], unnamed: Iterable[Any], names: Sequence[str], where: str
) -> tuple[Any, ...]:
    """An array for each input: those with the input's name first, the unnamed ones fill the rest.

    Errors: DataError for arrays of other names, or of another number.
    """
    positions = sorted((k for k in named if UNNAMED.fullmatch(k)), key=lambda k: int(k[4:]))
    known = {k: x for k, x in named.items() if k not in positions}
    rest = [*unnamed, *(named[k] for k in positions)]
    if len(names) == len(known) == 1 and not rest:
        return tuple(known.values())
    keys = {name: k for name in names if (k := _key(name, known)) is not None}
    fill = iter(rest)
    missing = len(names) - len(keys)
    unused = [k for k in known if k not in keys.values()]
    if len(rest) != missing or (unused and missing):
        inputs = f"{len(names)} are needed: {', '.join(names)}"
        if not known:
            raise DataError(f"{where}: {_counted(len(rest))}, {inputs}")
        raise DataError(f"{where}: arrays are called {', '.join(named)}, {inputs}", HINT)
    return tuple(known[keys[name]] if name in keys else next(fill) for name in names)


def batches_in_order(
    batches: Iterable[Any], names: Sequence[str], where: str = "calibration batch"
) -> Iterator[Any]:
    """Every batch as in_order gives it, lazily; what is no mapping is passed on as it is."""
    for number, batch in enumerate(batches):
        yield in_order(batch, names, f"{where} {number}") if isinstance(batch, Mapping) else batch


def _key(name: str, arrays: Mapping[str, Any]) -> str | None:
    """The key of the input `name`; files in .npz have _ for / (they are members of a zip)."""
    plain = name.replace("/", "_").replace("\\", "_")
    return name if name in arrays else plain if plain in arrays else None


def _counted(n: int) -> str:
    return f"{n} array" if n == 1 else f"{n} arrays"
