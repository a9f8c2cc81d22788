"""The command line: qir compile | compile-lm | run | generate | bench | report | opt | ..."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from qir.cli.parser import parser
from qir.cli.syntax import FAILED, INTERRUPTED, failed
from qir.ir.errors import QirError, printable
from qir.runtime.errors import RuntimeFault


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Errors go to stderr in one line, with a hint under it."""
    options = parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], None] = getattr(
            import_module(options.module), options.function
        )
        command(options)
        sys.stdout.flush()
    except (QirError, RuntimeFault) as e:
        return failed(e.text, e.hint)
    except BrokenPipeError:  # the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as e:
        where = f"{e.filename}: " if e.filename is not None else ""
        return failed(printable(f"{where}{e.strerror or e}"), None)
    except MemoryError:
        return failed("out of memory", "a smaller --batch needs less")
    except KeyboardInterrupt:
        return failed("interrupted", None, INTERRUPTED)
    except ModuleNotFoundError as e:
        package = (e.name or "qir").split(".")[0]
        if package == "qir":
            return _internal(e)
        return failed(f"Python package {package}: not installed, qir needs it", "pip install qir")
    except Exception as e:
        return _internal(e)
    return 0


def _internal(e: Exception) -> int:
    """An exception that no input should cause."""
    if os.environ.get("QIR_TRACEBACK"):
        traceback.print_exc()
    text = str(e).splitlines()[0] if str(e) else "no text"
    return failed(
        printable(f"a fault in qir itself: {type(e).__name__}: {text}"),
        "QIR_TRACEBACK=1 in the environment shows where; please report it",
    )
