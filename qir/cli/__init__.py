"""The command line: qir compile | run | bench | report | opt | cases | targets | passes."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import qir
from qir.ir.errors import QirError
from qir.runtime.errors import RuntimeFault

FAILED, USAGE, INTERRUPTED = 1, 2, 130  # 128 + SIGINT, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Errors go to stderr in one line, with a hint under it."""
    given = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], None] = getattr(
            import_module(given.module), given.function
        )
        command(given)
        sys.stdout.flush()
    except (QirError, RuntimeFault) as e:
        return _failed(e.text, e.hint)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as e:
        where = f"{e.filename}: " if e.filename is not None else ""
        return _failed(f"{where}{e.strerror or e}", None)
    except MemoryError:
        return _failed("out of memory", "a smaller --batch needs less")
    except KeyboardInterrupt:
        return _failed("interrupted", None, INTERRUPTED)
    except Exception as e:
        if os.environ.get("QIR_TRACEBACK"):
            traceback.print_exc()
        text = str(e).splitlines()[0] if str(e) else "no text"
        return _failed(
            f"a fault in qir itself: {type(e).__name__}: {text}",
            "QIR_TRACEBACK=1 in the environment shows where; please report it",
        )
    return 0


def _failed(text: str, hint: str | None, status: int = FAILED) -> int:
    print(f"error: {text}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {hint}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Usage errors in the form of all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(_failed(message, f"{self.prog} --help", USAGE))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qir",
        description="Compiles trained float models to integer-only programs.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"qir {qir.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_compile, _run, _bench, _report, _opt, _cases, _targets, _passes):
        add(commands)
    return parser


def _command(commands: Any, name: str, module: str, function: str, about: str) -> Any:
    parser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(module=f"qir.cli.{module}", function=function)
    return parser


def _compile(commands: Any) -> None:
    p = _command(commands, "compile", "commands", "compile_model", "make a program of a model")
    p.add_argument("model", type=Path, help="an ONNX file, or a graph in qir's text (.qir)")
    p.add_argument(
        "--calibration",
        metavar="DATA",
        help="sample inputs: .npy, .npz (file.npz:x takes array x), or a folder of them",
    )
    p.add_argument("-o", "--output", type=Path, help="the artifact's folder (default: MODEL.qir)")
    p.add_argument("--target", default="cpu", help="a machine that `qir targets` lists")
    p.add_argument(
        "--bits",
        type=_bits,
        default=8,
        help="8; weights,activations as in 4,8; w4g32a8; mixed, within the limits below; or the"
        " file of such a choice",
    )
    _mixed(p.add_argument_group("limits of --bits mixed, one or more"))
    p.add_argument(
        "--rounding",
        metavar="METHOD",
        help="of weights: adaround, adaquant, gptq, gpfq, quantease,"
        " adaround-blocks, adaquant-blocks",
    )
    p.add_argument(
        "--waves",
        type=_positive,
        help="parts of the network that are rounded in turn; 1: all layers at once, for many"
        " workers (default: each layer is one)",
    )
    p.add_argument("--batch", type=_positive, help="what a free batch size becomes (1)")
    p.add_argument(
        "--shape",
        type=_shape,
        action="append",
        default=[],
        metavar="INPUT=1,3,224,224",
        help="the shape of an input with free sizes; may be given again",
    )
    p.add_argument(
        "--observer",
        default="mse",
        help="how ranges are chosen: min-max, percentile, mse, entropy",
    )
    p.add_argument("--state", type=Path, help="a folder from which cut-off work goes on")
    p.add_argument("--name", help="of the program (default: the file's)")
    p.add_argument("--check", action="store_true", help="hold every pass against its claim")


def _mixed(group: Any) -> None:
    share = "share of the way from the cheapest bits to the dearest"
    for name in ("size", "bops", "latency"):
        group.add_argument(f"--{name}", type=float, metavar="SHARE", help=share)
    group.add_argument("--size-bytes", type=float, metavar="N", help="bytes of all weights")
    group.add_argument("--latency-us", type=float, metavar="N", help="of the program, as measured")
    group.add_argument("--weight-bits", type=float, metavar="N", help="average over all weights")
    group.add_argument("--activation-bits", type=float, metavar="N", help="average of what is read")
    group.add_argument("--choices", metavar="A,B", help="bits a layer may have (w4a8,w8a8)")
    group.add_argument(
        "--ends", metavar="BITS", help="of first and last layers (w8a8); none to choose them too"
    )
    group.add_argument("--measure", metavar="NAME", help="what bits lose: hessian, or another")


def _run(commands: Any) -> None:
    p = _command(commands, "run", "commands", "run_artifact", "run a program on inputs")
    _artifact(p)
    p.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="X",
        help=".npy or .npz; several samples run one after the other; again for further inputs",
    )
    p.add_argument("-o", "--output", type=Path, help="where the outputs go: .npy, or .npz")
    p.add_argument("--integer", action="store_true", help="stored integers in and out")
    p.add_argument(
        "--emulate", action="store_true", help="under an emulator of the machine it was made for"
    )
    _variant(p)
    p.add_argument("--threads", type=_positive, default=1)


def _variant(p: Any) -> None:
    p.add_argument(
        "--variant",
        metavar="NAME",
        help="of a program for several machines, the one whose code runs (default: the best)",
    )


def _bench(commands: Any) -> None:
    p = _command(commands, "bench", "commands", "bench_artifact", "time a program and its ops")
    _artifact(p)
    p.add_argument("--seconds", type=_seconds, default=3.0, help="how long to measure (3)")
    _variant(p)
    p.add_argument("--threads", type=_positive, default=1)
    p.add_argument("--json", action="store_true", help="the numbers as JSON")


def _report(commands: Any) -> None:
    p = _command(commands, "report", "commands", "show_report", "tell what a program is made of")
    _artifact(p)
    p.add_argument("--html", type=Path, metavar="PAGE", help="write it as one web page")
    p.add_argument("--json", action="store_true", help="print it as JSON")
    p.add_argument("--profile", action="store_true", help="time each op first")


def _opt(commands: Any) -> None:
    p = _command(commands, "opt", "opt", "run_passes", "run passes on a graph in text")
    p.add_argument("graph", help="a graph in qir's text, an ONNX file, or - for stdin")
    p.add_argument("--passes", metavar="A,B(option=3)", help="passes to run, in order")
    p.add_argument("--pipeline", metavar="NAME", help="a pipeline that `qir passes` lists")
    p.add_argument("--explain", metavar="NAME", help="say where pass NAME did not apply, and why")
    p.add_argument("--check", action="store_true", help="hold every pass against its claim")
    p.add_argument("-o", "--output", type=Path, help="where the graph goes (default: stdout)")


def _cases(commands: Any) -> None:
    p = _command(commands, "cases", "opt", "run_cases", "run case files of passes")
    p.add_argument("files", nargs="+", type=Path, metavar="FILE.qir", help="as docs/add_a_pass.md")
    p.add_argument("--update", action="store_true", help="rewrite what stands after `becomes`")


def _targets(commands: Any) -> None:
    _command(commands, "targets", "commands", "list_targets", "list the machines there are")


def _passes(commands: Any) -> None:
    _command(commands, "passes", "opt", "list_passes", "list the passes and pipelines")


def _artifact(parser: Any) -> None:
    parser.add_argument("artifact", type=Path, help="a folder that `qir compile` wrote")


def _bits(text: str) -> int | tuple[int, int] | str:
    parts = text.split(",")
    if len(parts) > 2 or not all(p.strip().isdecimal() for p in parts):
        if text == "mixed" or Path(text).is_file() or re.fullmatch(r"w\d+(g\d+)?a\d+", text):
            return text
        raise argparse.ArgumentTypeError(
            f"{text!r} given, as in 8, 4,8, w4g32a8, mixed or a file is needed"
        )
    widths = [int(p) for p in parts]
    return widths[0] if len(widths) == 1 else (widths[0], widths[1])


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} given, a positive integer is needed")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} given, seconds up to a day are needed")
    return value


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.rpartition("=")
    parts = sizes.split(",")
    if not equals or not name or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} given, as in input=1,3,224,224 is needed")
    return name, tuple(int(p) for p in parts)
