"""Tables for a terminal of any width: columns are dropped before a number is cut."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from qir.ir.errors import printable

LEAST_CUT = 12  # columns that a cut name keeps
GAP = 3  # columns between two cells, and around the table

Row = Sequence[str | Text]


def table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Row],
    columns: int,
    *,
    cut: Collection[str] = (),
    drop: Sequence[str] = (),
    wrap: Collection[str] = (),
    lines_after: Collection[int] = (),
) -> Table:
    """A table at most `columns` wide.

    heads: names of columns; one that ends in > holds right-aligned numbers.
    drop:  columns to leave out where the others need the room, the first one first.
    cut:   columns whose text is shortened with an ellipsis, then, to LEAST_CUT.
    wrap:  columns whose text continues on the next line.
    lines_after: rows with a line below them.
    Text that still does not fit continues on the next line; a digit is never lost.
    """
    cells = [[_safe(cell) for cell in row] for row in rows]
    names = [head.rstrip(">") for head in heads]
    widths = [max(cell_len(n), *(_width(row[i]) for row in cells), 0) for i, n in enumerate(names)]
    least = [
        min(w, LEAST_CUT) if n in cut or n in wrap else w
        for n, w in zip(names, widths, strict=True)
    ]
    indices = _kept_columns(names, least, columns, drop)
    room = columns - 1 - GAP * len(indices) - sum(least[i] for i in indices)
    result = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD
    )
    flexible = [i for i in indices if widths[i] > least[i]]
    flexible.sort(key=lambda i: widths[i])
    limits = {}
    for at, i in enumerate(flexible):
        extra = max(min(room // (len(flexible) - at), widths[i] - least[i]), 0)
        limits[i] = least[i] + extra
        room -= extra
    for i in indices:
        justify: JustifyMethod = "right" if heads[i].endswith(">") else "left"
        wraps = names[i] in wrap or room < 0
        result.add_column(
            names[i],
            justify=justify,
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
            max_width=limits.get(i),
        )
    for at, row in enumerate(cells):
        result.add_row(*(row[i] for i in indices), end_section=at in lines_after)
    result.show_header = any(n.strip() for n in names)
    if missing := [n for i, n in enumerate(names) if i not in indices]:
        result.caption = f"no room for {', '.join(missing)}: a wider terminal shows more"
    return result


def _kept_columns(
    names: Sequence[str], least: Sequence[int], columns: int, drop: Sequence[str]
) -> list[int]:
    """The indexes of the columns that fit once those of `drop`, in order, are left out."""
    indices = list(range(len(names)))
    for name in drop:
        if sum(least[i] + GAP for i in indices) + 1 <= columns:
            break
        indices = [i for i in indices if names[i] != name]
    return indices


def _safe(cell: str | Text) -> str | Text:
    """The cell without control characters: names come from models and artifacts."""
    plain = "\n".join(map(printable, str(cell).split("\n")))
    if plain == str(cell):
        return cell
    return Text(plain, cell.style) if isinstance(cell, Text) else plain


def _width(cell: str | Text) -> int:
    return max((cell_len(line) for line in str(cell).splitlines()), default=0)
