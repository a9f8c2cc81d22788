"""Output of the commands: tables on stdout, progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from qir.ir.errors import printable

PLAIN_COLUMNS = 160


def console() -> Console:
    """Standard output; where it is no terminal, plain text of COLUMNS or PLAIN_COLUMNS."""
    if sys.stdout.isatty():
        return Console(markup=False)
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) > 0 else PLAIN_COLUMNS
    return Console(width=width, no_color=True, markup=False)


def lines(*texts: str) -> None:
    """Print lines without colour, control characters and line breaks: paths can be copied."""
    out = console()
    for line in texts:
        out.print(printable(line), highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on stderr for qir.compile; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("import", total=None)

        def update(step: str, count: int, total: int) -> None:
            words = step if total else f"{step}: {count} samples"
            bar.update(task, description=words, completed=count, total=total or None)

        yield update
