"""How commands are written: their parsers, the values of their options, and usage errors."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from qir.ir.errors import printable

FAILED, USAGE, INTERRUPTED = 1, 2, 130  # 128 + SIGINT, as shells count


def failed(text: str, hint: str | None, status: int = FAILED) -> int:
    """Print an error whose texts are printable; the exit status."""
    print(f"error: {text}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {hint}", file=sys.stderr)
    return status


class Parser(argparse.ArgumentParser):
    """Usage errors in the form of all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(failed(printable(message), f"{self.prog} --help", USAGE))


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help with the default of every option that has one, and examples as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, False, [], argparse.SUPPRESS) or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def command(
    commands: Any, name: str, function: str, description: str, examples: str = "", module: str = ""
) -> Any:
    """A parser for the command `name`, which calls `function` of qir.cli.`module`."""
    epilog = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
    p = commands.add_parser(
        name,
        help=description,
        description=description[0].upper() + description[1:] + ".",
        epilog=f"examples:\n{epilog}" if epilog else None,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    p.set_defaults(module=f"qir.cli.{module or 'commands'}", function=function)
    return p


BITS = r"w\d+([gb]\d+)?a\d+(b\d+)?|bfp[468]"


def bits(text: str) -> int | tuple[int, int] | str:
    parts = text.split(",")
    if len(parts) > 2 or not all(p.strip().isdecimal() for p in parts):
        if text == "mixed" or Path(text).is_file() or re.fullmatch(BITS, text):
            return text
        raise argparse.ArgumentTypeError(
            f"{text!r} given, as in 8, 4,8, w4g32a8, mixed or a file is needed"
        )
    widths = [int(p) for p in parts]
    return widths[0] if len(widths) == 1 else (widths[0], widths[1])


def kv(text: str) -> int | str:
    """The format of keys and values: its number of bits, or its name."""
    return int(text) if text.isdecimal() else text


def positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} given, a positive integer is needed")
    return int(text)


def ids(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(re.fullmatch("-?[0-9]{1,18}", p.strip()) for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} given, ids as in 1,403,407 are needed")
    return tuple(map(int, parts))


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} given, seconds up to a day are needed")
    return value


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.rpartition("=")
    parts = sizes.split(",")
    if not equals or not name or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} given, as in input=1,3,224,224 is needed")
    return name, tuple(int(p) for p in parts)
