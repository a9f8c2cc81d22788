"""Writes docs/reference/api.md from the docstrings: python docs/reference/generate_api.py."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qir
from qir import runtime
from qir.report.model import Report
from qir.runtime import Session

PAGE = Path(__file__).with_name("api.md")

HEAD = """\
# Python API

The public names of `qir`, then what its functions return, then `qir.runtime`, which runs artifacts
with the standard library and NumPy alone. Everything else may change between versions. This page is
generated from the docstrings by `python docs/reference/generate_api.py`; a test compares them.
"""


def page() -> str:
    """The whole page."""
    errors = [n for n in qir.__all__ if is_error(getattr(qir, n))]
    names = [n for n in qir.__all__ if n not in errors and not n.startswith("_")]
    parts = [HEAD, "## qir\n", *(section("qir", n, getattr(qir, n)) for n in names)]
    parts += [section("Report", "Report", Report, "what `net.report()` returns")]
    parts += ["## Errors\n", "All derive from `QirError`: `text`, `hint`.\n", table(errors)]
    parts += ["## qir.runtime\n", section("qir.runtime", "load", runtime.load)]
    parts += [section("qir.runtime", "Session", Session, "what `qir.runtime.load` returns")]
    return "\n".join(parts)


def is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def table(errors: list[str]) -> str:
    meanings = {n: (inspect.getdoc(getattr(qir, n)) or "").partition("\n\n")[0] for n in errors}
    rows = (f"| `qir.{n}` | {' '.join(text.split())} |" for n, text in sorted(meanings.items()))
    return "\n".join(["| class | meaning |", "|---|---|", *rows, ""])


def section(home: str, name: str, value: Any, about: str = "") -> str:
    title = f"### {home}.{name}" if about == "" else f"### {name}, {about}"
    if not isinstance(value, type):
        return f"{title}\n\n{definition(name, value)}\n"
    parts = [title, "", indented(inspect.getdoc(value) or ""), ""]
    for method, function in methods(value):
        parts += [definition(method, function), ""]
    return "\n".join(parts)


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The documented public methods and properties, those of qir's base classes last."""
    found = {n: v for base in reversed(cls.__mro__[:-1]) for n, v in vars(base).items()}
    own = [*vars(cls), *(n for n in found if n not in vars(cls))]
    for name, value in ((n, found[n]) for n in own):
        is_public = not name.startswith("_") or name == "__call__"
        function = value.fget if isinstance(value, property) else value
        function = getattr(function, "__func__", function)
        if is_public and inspect.isfunction(function) and inspect.getdoc(value):
            yield name, value


def definition(name: str, function: Any) -> str:
    """A signature as code, and the docstring below it."""
    if isinstance(function, property):
        head = f"{name} -> {inspect.signature(function.fget).return_annotation}"
        return f"    {head}\n\n{indented(inspect.getdoc(function) or '', 8)}"
    function = getattr(function, "__func__", function)
    signature = inspect.signature(function)
    parameters = [parameter(p) for p in signature.parameters.values() if p.name != "self"]
    if any(p.kind is p.KEYWORD_ONLY for p in signature.parameters.values()):
        first = next(p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)
        parameters.insert(list(signature.parameters).index(first.name), "*")
    returns = f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) > 96:
        line = f"{name}(\n" + "".join(f"    {p},\n" for p in parameters) + f"){returns}"
    return f"{indented(line)}\n\n{indented(inspect.getdoc(function) or '', 8)}"


def parameter(p: inspect.Parameter) -> str:
    """A parameter with its annotation as the source writes it."""
    return str(p).replace(f"{p.annotation!r}", f"{p.annotation}")


def indented(text: str, spaces: int = 4) -> str:
    return textwrap.indent(text, " " * spaces)


if __name__ == "__main__":
    PAGE.write_text(page())
