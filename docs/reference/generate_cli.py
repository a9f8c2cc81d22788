"""Writes docs/reference/cli.md from the parser: python docs/reference/generate_cli.py."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from qir.cli.parser import parser

PAGE = Path(__file__).with_name("cli.md")

HEAD = """\
# Command line

Every command with its arguments. This page is generated from the parser by
`python docs/reference/generate_cli.py`; a test compares them. `qir COMMAND --help` prints the same.

Errors go to stderr as one line, with a hint below it where there is one. Exit status: 0 for
success, 1 for an error, 2 for wrong arguments, 130 after an interrupt. `QIR_TRACEBACK=1` in the
environment adds the Python traceback of an internal fault.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *(section(name, p) for name, p in commands().items())]
    return "\n".join(parts)


def commands() -> Mapping[str, argparse.ArgumentParser]:
    actions = parser()._actions
    (group,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))
    return group.choices


def section(name: str, command: argparse.ArgumentParser) -> str:
    """One command: its description, arguments and examples."""
    lines = [f"## qir {name}", "", command.description or "", ""]
    if rows := list(arguments(command)):
        lines += ["| argument | meaning | default |", "|---|---|---|", *rows, ""]
    if command.epilog:
        lines += [line.rstrip() for line in command.epilog.replace("  qir", "    qir").splitlines()]
        lines.insert(lines.index("examples:") + 1, "")
        lines[lines.index("examples:")] = "Examples:"
        lines.append("")
    return "\n".join(lines)


def arguments(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        takes_value = bool(action.option_strings) and action.nargs != 0
        value = f" {action.metavar or action.dest.upper()}" if takes_value else ""
        text, _, default = (action.help or "").partition(" (default: ")
        if not default and action.default not in (None, False, []):
            default = f"{action.default})"
        shown = default.removesuffix(")")
        needed = action.required and action.option_strings
        yield f"| `{names}{value}` | {text}{'; required' if needed else ''} | {shown} |"


if __name__ == "__main__":
    PAGE.write_text(page())
