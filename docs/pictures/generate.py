"""Draws the pictures of the tutorial from its own models: python docs/pictures/generate.py."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import qir
from qir.report.html.bits_plots import bits_plot
from qir.report.html.graph import draw
from qir.report.model import Report

HERE = Path(__file__).parent
PAGE = HERE.parent / "tutorial.md"
STYLE = Path(qir.__file__).parent / "report" / "html" / "page.css"
RULES = ("svg", ".plot", "#graph", ".node", ".edge", ".grid", ".right", ".middle", ".layer",
         ".good", ".fair", ".low", ".bad", ".none", ".front", ".own")  # fmt: skip


def models() -> dict[str, Any]:
    """What the Python blocks of the tutorial define."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, str(PAGE), "exec"), names)
    return names


def svg(body: str, width: int | None = None) -> str:
    """A file of its own from a drawing of the report's page, with the rules that it needs.

    Colours are those of the light page: not every viewer of SVG knows variables of CSS.
    """
    css = STYLE.read_text()
    colours = dict(re.findall(r"(--[\w-]+): ([^;]+);", css[: css.index("@media")]))
    rules = " ".join(line for line in css.splitlines() if line.startswith(RULES))
    style = re.sub(r"var\((--[\w-]+)\)", lambda m: colours[m[1]], rules)
    drawing = body[body.index("<svg") : body.rindex("</svg>")]
    head, _, rest = drawing.partition(">")
    if "xmlns" not in head:
        head += ' xmlns="http://www.w3.org/2000/svg"'
    if width is not None:
        head += f' width="{width}"'
    font = f"svg {{ font-family: sans-serif; color: {colours['--ink']}; }}"
    paper = f'<rect width="100%" height="100%" fill="{colours["--pane"]}"/>'
    return f"{head}><style>{style} {font}</style>{paper}{rest}</svg>\n"


def main() -> None:
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            names = models()
            report: Report = qir.load("digits.qir").report()
        finally:
            os.chdir(here)
    (HERE / "graph.svg").write_text(svg(draw(report)))
    (HERE / "bits.svg").write_text(svg(bits_plot(names["mixed"].report().chosen), 900))


if __name__ == "__main__":
    main()
