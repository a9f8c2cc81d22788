"""The report of a compiled model: what each op runs as and how well, passes, proofs, sizes."""

from __future__ import annotations

import json
import math
import types
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from qir.ir.errors import ArtifactError
from qir.report.rows import ReportData

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

FORMAT = 9  # of the JSON; another number is refused
LARGEST = 2**63 - 1  # of a number in the JSON


@dataclass(frozen=True)
class Report(ReportData):
    """The report of a compiled model: in the terminal, in a browser, and as JSON.

    `print(report)` and a notebook show it; `html()` and `to_json()` return it as text.
    """

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
        """The report as JSON text; from_json reads an equal report from it."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """The report that to_json wrote.

        Errors: ArtifactError for text that is no report, with the field at fault.
        """
        try:
            content = json.loads(text, parse_constant=_refuse)
        except RecursionError as e:
            raise ArtifactError("report: nested too deep, the text of to_json is needed") from e
        except ValueError as e:
            raise ArtifactError(f"report: not JSON ({e}), the text of to_json is needed") from e
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            kind = _short(content.get("format") if isinstance(content, dict) else content)
            raise ArtifactError(f"report: format is {kind}, {FORMAT} is needed")
        return _instance(Report, {k: v for k, v in content.items() if k != "format"}, "report")

    def html(self) -> str:
        """One self-contained HTML page: graph, plots, tables; nothing is loaded from outside."""
        from qir.report.html.page import page

        return page(self)

    def __str__(self) -> str:
        from qir.report.terminal import plain

        return plain(self)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, as a notebook shows it."""
        frame = 'style="width:100%;height:720px;border:0"'
        return f'<iframe srcdoc="{escape(self.html())}" {frame}></iframe>'

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from qir.report.terminal import tables

        yield from tables(self, options.max_width)


def _plain(value: Any) -> Any:
    """The value in the types of JSON; an infinite float becomes the text "inf" or "-inf"."""
    match value:
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case float() if math.isinf(value):
            return str(value)
        case _:
            return value


T = TypeVar("T")


def _instance(kind: type[T], value: Any, at: str) -> T:
    """An instance of the dataclass `kind` from a JSON object, each field by its annotation."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, dict) or set(value) != names:
        keys = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
        raise ArtifactError(f"{at}: fields are {keys}, {', '.join(sorted(names))} are needed")
    hints = get_type_hints(kind)
    return kind(**{name: _field(hints[name], value[name], f"{at}.{name}") for name in names})


def _field(hint: Any, value: Any, at: str) -> Any:
    """A JSON value as the annotated type of a field."""
    args = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else _field(args[0], value, at)
    if get_origin(hint) is tuple:
        length_fits = isinstance(value, list) and (args[-1] is ... or len(value) == len(args))
        if not length_fits:
            raise ArtifactError(f"{at}: {_short(value)}, a list is needed")
        kinds = args[:1] * len(value) if args[-1] is ... else args
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(_field(k, v, f"{at}[{i}]") for i, (k, v) in pairs)
    if is_dataclass(hint):
        return _instance(hint, value, at)  # type: ignore[arg-type]
    if hint is float and value in ("inf", "-inf"):
        return float(value)
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ArtifactError(f"{at}: {_short(value)}, {hint.__name__} is needed")
    if hint in (int, float) and not -LARGEST <= value <= LARGEST:
        raise ArtifactError(f"{at}: {_short(value)}, at most {LARGEST} is needed")
    if hint is str and any("\ud800" <= c <= "\udfff" for c in value):
        raise ArtifactError(f"{at}: {_short(value)}, a text without lone surrogates is needed")
    return hint(value)


def _refuse(number: str) -> None:
    raise ValueError(f"number {number}, finite ones are needed")


def _short(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
