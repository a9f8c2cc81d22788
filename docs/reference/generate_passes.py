"""Writes docs/reference/passes.md from the passes: python docs/reference/generate_passes.py."""

from __future__ import annotations

from inspect import cleandoc, getdoc
from pathlib import Path

from qir.cli.opt import load_all, named_pipelines
from qir.passes.infra.manager import PASSES, Pass
from qir.passes.infra.options import described

PAGE = Path(__file__).with_name("passes.md")

HEAD = """\
# Passes

Every pass of qir by folder: what it rewrites, what it claims to keep, its options, and its cases.
This page is generated from the classes by `python docs/reference/generate_passes.py`; a test
compares them. `qir passes` lists the same, with the passes of installed packages;
[add_a_pass.md](../add_a_pass.md) shows how to write one.
"""


def page() -> str:
    """The whole page."""
    load_all()
    folders: dict[str, list[type[Pass]]] = {}
    for _, cls in sorted(PASSES.items()):
        if cls.__module__.startswith("qir.passes."):
            folder = "/".join(cls.__module__.split(".")[2:-1]) or "."
            folders.setdefault(folder, []).append(cls)
    parts = [HEAD, pipelines()]
    for folder, classes in sorted(folders.items()):
        parts.append(f"## {folder}\n")
        parts.extend(section(cls) for cls in classes)
    return "\n".join(parts)


def pipelines() -> str:
    rows = [
        f"| `{name}` | {pipeline.stage} | {', '.join(links(p.name) for p in pipeline.passes)} |"
        for name, pipeline in sorted(named_pipelines().items())
    ]
    head = ["## Pipelines", "", "| name | resulting stage | passes, in order |", "|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def links(name: str) -> str:
    return f"[{name}](#{name})"


def section(cls: type[Pass]) -> str:
    """One pass: its docstring, claim, options and files."""
    text = "\n".join(f"    {line}".rstrip() for line in cleandoc(getdoc(cls) or "").splitlines())
    options = f"`{described(cls)}`" if described(cls) else ""
    source = cls.__module__.removeprefix("qir.").replace(".", "/") + ".py"
    facts = [f"`{cls.__name__}` in `{source}`", f'claims "{cls.claim}"']
    if options:
        facts.append(f"options {options}")
    cases = Path("tests/cases/passes") / f"{cls.name}.qir"
    if (Path(__file__).resolve().parents[2] / cases).exists():
        facts.append(f"cases in `{cases}`")
    return f"### {cls.name}\n\n{text}\n\n{'; '.join(facts)}.\n"


if __name__ == "__main__":
    PAGE.write_text(page())
