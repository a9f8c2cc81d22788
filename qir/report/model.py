"""The report of a compiled model: what each op runs as and how well, passes, proofs, sizes."""

from __future__ import annotations

import json
import math
import types
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from qir.ir.errors import ArtifactError
from qir.report.chosen_bits import ChosenBits
from qir.report.rows import OpRow, PassRow, Port, Proofs, Share, Sizes

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

FORMAT = 5  # of the JSON; another number is refused


@dataclass(frozen=True)
class Report:
    """What was compiled, and how well; prints as tables, opens as a page, keeps as JSON.

    `variants`: the machines that the program has code for, where they are several; the kernels of
    the rows are then those of the last. `chosen`: how the bits were chosen, in mixed precision.
    """

    name: str
    target: str
    rows: tuple[OpRow, ...]
    passes: tuple[PassRow, ...]
    proofs: Proofs
    sizes: Sizes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    created_by: tuple[tuple[str, str], ...]
    variants: tuple[str, ...] = ()
    chosen: ChosenBits | None = None

    @property
    def machine(self) -> str:
        """The target, and its variants where there are several."""
        return f"{self.target} ({', '.join(self.variants)})" if self.variants else self.target

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def micros(self) -> float | None:
        """The sum over all ops, None when none was timed."""
        timed = [row.micros for row in self.rows if row.micros is not None]
        return sum(timed) if timed else None

    @property
    def worst_first(self) -> tuple[OpRow, ...]:
        """The rows by SQNR, least first; those not measured at the end, in program order."""
        return tuple(sorted(self.rows, key=lambda r: math.inf if r.sqnr_db is None else r.sqnr_db))

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each kernel does of the whole, the one with most MACs first."""
        names = dict.fromkeys(row.kernel for row in self.rows)
        found = [Share.of(name, [r for r in self.rows if r.kernel == name]) for name in names]
        return tuple(sorted(found, key=lambda s: (-s.macs, -(s.micros or 0), s.kernel)))

    def without_times(self) -> Report:
        """The same report with every measured time left out: equal programs give equal reports."""
        return replace(
            self,
            rows=tuple(replace(row, micros=None) for row in self.rows),
            passes=tuple(replace(p, seconds=None) for p in self.passes),
        )

    def with_times(self, micros: dict[str, float]) -> Report:
        """The same report with the time of each op, by the name of its row."""
        rows = tuple(replace(r, micros=micros.get(r.name, r.micros)) for r in self.rows)
        return replace(self, rows=rows)

    def to_json(self) -> str:
        """The report as JSON text; from_json gives back an equal one."""
        held = {"format": FORMAT, **asdict(self)}
        return json.dumps(_plain(held), indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """The report that to_json wrote.

        Errors: ArtifactError for text that is no report, with the field at fault.
        """
        try:
            held = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ArtifactError(f"report: not JSON ({e}), the text of to_json is needed") from e
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            found = held.get("format") if isinstance(held, dict) else type(held).__name__
            raise ArtifactError(f"report: format is {found}, {FORMAT} is needed")
        return _made(Report, {k: v for k, v in held.items() if k != "format"}, "report")

    def html(self) -> str:
        """One self-contained HTML page: graph, plots, tables; nothing is loaded from outside."""
        from qir.report.html.page import page

        return page(self)

    def __str__(self) -> str:
        from qir.report.terminal import plain

        return plain(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from qir.report.terminal import tables

        yield from tables(self, options.max_width)


def _plain(held: Any) -> Any:
    """What JSON can hold exactly: an infinite float becomes the text "inf" or "-inf"."""
    match held:
        case dict():
            return {k: _plain(v) for k, v in held.items()}
        case list() | tuple():
            return [_plain(v) for v in held]
        case float() if math.isinf(held):
            return str(held)
        case _:
            return held


T = TypeVar("T")


def _made(kind: type[T], held: Any, at: str) -> T:
    """An instance of the dataclass `kind` of what JSON holds, each field by its annotation."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(held, dict) or set(held) != names:
        found = ", ".join(sorted(held)) if isinstance(held, dict) else type(held).__name__
        raise ArtifactError(f"{at}: fields are {found}, {', '.join(sorted(names))} are needed")
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], held[name], f"{at}.{name}") for name in names})


def _read(hint: Any, held: Any, at: str) -> Any:
    args = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return None if held is None else _read(args[0], held, at)
    if get_origin(hint) is tuple:
        length_fits = isinstance(held, list) and (args[-1] is ... or len(held) == len(args))
        if not length_fits:
            raise ArtifactError(f"{at}: {_short(held)}, a list is needed")
        kinds = args[:1] * len(held) if args[-1] is ... else args
        pairs = enumerate(zip(kinds, held, strict=True))
        return tuple(_read(k, h, f"{at}[{i}]") for i, (k, h) in pairs)
    if is_dataclass(hint):
        return _made(hint, held, at)  # type: ignore[arg-type]
    if hint is float and held in ("inf", "-inf"):
        return float(held)
    if type(held) is not hint and not (hint is float and type(held) is int):
        raise ArtifactError(f"{at}: {_short(held)}, {hint.__name__} is needed")
    return hint(held)


def _short(held: Any) -> str:
    shown = repr(held)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
