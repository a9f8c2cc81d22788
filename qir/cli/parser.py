"""The arguments of every command, and usage errors in the form of all others."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from qir.ir.errors import printable
from qir.version import __version__

FAILED, USAGE, INTERRUPTED = 1, 2, 130  # 128 + SIGINT, as shells count


def failed(text: str, hint: str | None, status: int = FAILED) -> int:
    """Print an error whose texts are printable; the exit status."""
    print(f"error: {text}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {hint}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Usage errors in the form of all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(failed(printable(message), f"{self.prog} --help", USAGE))


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help with the default of every option that has one, and examples as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, False, [], argparse.SUPPRESS) or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="qir",
        description="Compiles trained float models to integer-only programs.",
        epilog="qir COMMAND --help describes a command, with examples.",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"qir {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_compile, _run, _generate, _bench, _report, _opt, _cases, _targets, _passes):
        add(commands)
    return top


def _command(
    commands: Any, name: str, function: str, about: str, examples: str = "", module: str = ""
) -> Any:
    """A parser for the command `name`, which calls `function` of qir.cli.`module`."""
    shown = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
    p = commands.add_parser(
        name,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=f"examples:\n{shown}" if shown else None,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    p.set_defaults(module=f"qir.cli.{module or 'commands'}", function=function)
    return p


def _compile(commands: Any) -> None:
    p = _command(
        commands,
        "compile",
        "compile_model",
        "compile a model to an integer-only program",
        """
        qir compile model.onnx --calibration data.npz -o model.qir
        qir compile model.onnx --calibration folder --target cortex-m4
        qir compile model.onnx --calibration data.npy --bits 4,8 --rounding adaround --state work
        qir compile model.onnx --calibration data.npy --bits mixed --size 0.5
        qir compile model.onnx --calibration data.npy --bits model.qir/bits.toml
        """,
    )
    _model(p)
    _quantization(p)
    _work(p)


def _model(p: Any) -> None:
    p.add_argument("model", type=Path, help="an ONNX file, or a graph in qir's text form (.qir)")
    p.add_argument(
        "--calibration",
        metavar="DATA",
        help="sample inputs: .npy, .npz with an array for each input by its name (file.npz:a,b"
        " selects arrays), or a folder of such files, one batch each",
    )
    p.add_argument("-o", "--output", type=Path, help="folder of the artifact (default: MODEL.qir)")
    p.add_argument("--target", default="cpu", help="a machine that `qir targets` lists")
    p.add_argument("--batch", type=_positive, help="value of a free batch size (default: 1)")
    p.add_argument(
        "--shape",
        type=_shape,
        action="append",
        default=[],
        metavar="INPUT=1,3,224,224",
        help="shape of an input with free sizes; repeat it for further inputs",
    )
    p.add_argument("--name", help="name of the program (default: the file's)")


def _quantization(p: Any) -> None:
    p.add_argument(
        "--bits",
        type=_bits,
        default=8,
        help="8; weights,activations as in 4,8; w4g32a8 with a scale for each 32 input channels,"
        " bfp8, bfp6 or bfp4 with an exponent; mixed, within the limits below; or a bits.toml file",
    )
    _mixed(p.add_argument_group("limits of --bits mixed (one or more)"))
    p.add_argument(
        "--rounding",
        metavar="METHOD",
        help="method that rounds the weights: adaround, adaquant, gptq, gpfq, quantease,"
        " adaround-blocks, adaquant-blocks; rescue-groups for scales by group in the few layers"
        " that need them; several, as in rescue-groups,adaround (default: to the nearest)",
    )
    p.add_argument(
        "--waves",
        type=_positive,
        help="split the network into this many parts and round them in turn; with 1, all layers"
        " are rounded at once, for many workers (default: one part for each layer)",
    )
    p.add_argument(
        "--observer",
        help="method that chooses the range of an activation: min-max, percentile, mse, entropy"
        " (default: mse; min-max where tokens have scales of their own)",
    )
    p.add_argument("--scales", default="auto", help="scales of the inputs of linear ops: token, one"
                   " for each token at run time; static, from calibration; auto, token where the"
                   " model has attention")  # fmt: skip
    p.add_argument("--outliers", default="auto", help="treatment of channels that reach far beyond"
                   " the others, in models with attention: smoothquant, osplus, rotate, none; auto,"
                   " what helps on the calibration data")  # fmt: skip


def _work(p: Any) -> None:
    p.add_argument("--concurrency", type=_positive, metavar="N", help="layers to run side by side")
    p.add_argument("--skip", type=float, metavar="SHARE", help="sub-layers to leave out, of all")
    p.add_argument("--state", type=Path, help="folder for intermediate results: an interrupted"
                   " compile resumes from it")  # fmt: skip
    p.add_argument("--fresh", action="store_true", help="for --latency: forget the kernel times of"
                   " earlier runs and measure again")  # fmt: skip
    p.add_argument("--check", action="store_true", help="check the claim of every pass (slower)")


def _mixed(group: Any) -> None:
    share = "share of the way from the cheapest to the most expensive choice of {}"
    for name, resource in (
        ("size", "bits, in bytes of weights"),
        ("bops", "bits, in bit operations"),
        ("latency", "bits, in measured time"),
    ):
        help_ = share.format(resource)
        group.add_argument(f"--{name}", type=float, metavar="SHARE", help=help_)
    group.add_argument("--size-bytes", type=float, metavar="N", help="bytes of all weights")
    group.add_argument("--latency-us", type=float, metavar="N", help="microseconds of one call")
    group.add_argument("--weight-bits", type=float, metavar="N", help="average over all weights")
    group.add_argument(
        "--activation-bits", type=float, metavar="N", help="average over the layers' inputs"
    )
    group.add_argument(
        "--choices", metavar="A,B", help="bits a layer may have (default: w4a8,w8a8)"
    )
    group.add_argument(
        "--ends",
        metavar="BITS",
        help="bits of the first and last layers; none chooses them too (default: w8a8)",
    )
    group.add_argument(
        "--measure", metavar="NAME", help="sensitivity to minimize (default: hessian)"
    )


def _run(commands: Any) -> None:
    p = _command(
        commands,
        "run",
        "run_artifact",
        "run a program on inputs",
        """
        qir run model.qir --input x.npy -o y.npy
        qir run model.qir --input inputs.npz            arrays by the names of the inputs
        qir run model.qir --input inputs.npz:a,b        these two, in this order
        qir run m4.qir --emulate --input x.npy -o y.npy
        """,
    )
    _artifact(p)
    p.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="X",
        help=".npy, or .npz with an array for each input by its name; several samples run one"
        " after the other; repeat it for further inputs",
    )
    p.add_argument("-o", "--output", type=Path, help="file for the outputs: .npy or .npz")
    p.add_argument("--integer", action="store_true", help="stored integers in and out")
    p.add_argument(
        "--emulate", action="store_true", help="run under an emulator of the program's target"
    )
    _entry(p)
    p.add_argument(
        "--state",
        type=Path,
        metavar="FILE.npy",
        help="the state that calls of entries keep: read from there if it exists, written back",
    )
    _variant(p)
    p.add_argument("--threads", type=_positive, default=1, help="threads that share the work")


def _entry(p: Any) -> None:
    p.add_argument(
        "--entry", metavar="NAME", help="entry of an artifact with several (default: the first)"
    )


def _generate(commands: Any) -> None:
    p = _command(
        commands,
        "generate",
        "generate_tokens",
        "write the tokens that follow a prompt, as a language model has them",
        """
        qir generate net.qir --ids 1,403,407
        qir generate net.qir --ids 1 --tokens 200 --temperature 0.8 --top-k 40 --stop 2
        """,
        "entries",
    )
    _artifact(p)
    p.add_argument("--ids", type=_ids, required=True, metavar="A,B,...", help="the prompt")
    p.add_argument("--tokens", type=_positive, default=64, help="the most to write")
    p.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest of each")
    p.add_argument("--top-k", type=_positive, default=0, help="draw among so many (default: all)")
    p.add_argument("--seed", type=_positive, default=1, help="of what is drawn")
    p.add_argument("--stop", type=_ids, default=(), metavar="A,B,...", help="ids that end it")
    p.add_argument(
        "--emulate", action="store_true", help="run under an emulator of the program's target"
    )
    _variant(p)
    p.add_argument("--threads", type=_positive, default=1, help="threads that share the work")


def _variant(p: Any) -> None:
    p.add_argument(
        "--variant",
        metavar="NAME",
        help="machine to run the code of, in a program for several (default: the best one here)",
    )


def _bench(commands: Any) -> None:
    p = _command(
        commands,
        "bench",
        "bench_artifact",
        "time a program and its ops",
        """
        qir bench model.qir --threads 2
        qir bench model.qir --seconds 10 --json
        """,
    )
    _artifact(p)
    p.add_argument("--seconds", type=_seconds, default=3.0, help="duration of the measurement")
    _entry(p)
    _variant(p)
    p.add_argument("--threads", type=_positive, default=1, help="threads that share the work")
    p.add_argument("--json", action="store_true", help="print the numbers as JSON")


def _report(commands: Any) -> None:
    p = _command(
        commands,
        "report",
        "show_report",
        "show what a program is made of, op by op",
        """
        qir report model.qir
        qir report model.qir --html page.html --profile
        """,
    )
    _artifact(p)
    p.add_argument("--html", type=Path, metavar="PAGE", help="write it as one web page")
    p.add_argument("--json", action="store_true", help="print it as JSON")
    p.add_argument("--profile", action="store_true", help="time each op first")


def _opt(commands: Any) -> None:
    p = _command(
        commands,
        "opt",
        "run_passes",
        "run passes on a graph in text form",
        """
        qir opt model.onnx --pipeline canonicalize -o model.qir
        qir opt graph.qir --passes fold-constants,remove-dead-code --check
        qir opt graph.qir --explain fold-batch-norm
        """,
        "opt",
    )
    p.add_argument("graph", help="a graph in qir's text form, an ONNX file, or - for stdin")
    p.add_argument("--passes", metavar="A,B(option=3)", help="passes to run, in order")
    p.add_argument("--pipeline", metavar="NAME", help="a pipeline that `qir passes` lists")
    p.add_argument("--explain", metavar="NAME", help="print where pass NAME did not apply, and why")
    p.add_argument("--check", action="store_true", help="check the claim of every pass")
    p.add_argument("-o", "--output", type=Path, help="file for the graph (default: stdout)")


def _cases(commands: Any) -> None:
    p = _command(
        commands,
        "cases",
        "run_cases",
        "run case files of passes",
        """
        qir cases tests/cases/passes/*.qir
        qir cases my_pass.qir --update
        """,
        "opt",
    )
    p.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.qir", help="as docs/add_a_pass.md describes"
    )
    p.add_argument(
        "--update", action="store_true", help="rewrite the graph after `becomes` with the result"
    )


def _targets(commands: Any) -> None:
    _command(commands, "targets", "list_targets", "list the machines that qir compiles for")


def _passes(commands: Any) -> None:
    _command(commands, "passes", "list_passes", "list the passes and pipelines", module="opt")


def _artifact(p: Any) -> None:
    p.add_argument("artifact", type=Path, help="a folder that `qir compile` wrote")


BITS = r"w\d+([gb]\d+)?a\d+|bfp[468]"


def _bits(text: str) -> int | tuple[int, int] | str:
    parts = text.split(",")
    if len(parts) > 2 or not all(p.strip().isdecimal() for p in parts):
        if text == "mixed" or Path(text).is_file() or re.fullmatch(BITS, text):
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


def _ids(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(re.fullmatch("-?[0-9]{1,18}", p.strip()) for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} given, ids as in 1,403,407 are needed")
    return tuple(map(int, parts))


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
