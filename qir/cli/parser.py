"""The arguments of every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qir.cli.compile_parser import add_compile, add_compile_lm
from qir.cli.syntax import Formatter, Parser, command, ids, positive, seconds
from qir.version import __version__


def parser() -> Parser:
    top = Parser(
        prog="qir",
        description="Compiles trained float models to integer-only programs.",
        epilog="qir COMMAND --help describes a command, with examples.",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"qir {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    compilers = (add_compile, add_compile_lm)
    for add in (*compilers, _run, _generate, _bench, _report, _opt, _cases, _targets, _passes):
        add(commands)
    return top


def _run(commands: Any) -> None:
    p = command(
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
    p.add_argument("--threads", type=positive, default=1, help="threads that share the work")


def _entry(p: Any) -> None:
    p.add_argument(
        "--entry", metavar="NAME", help="entry of an artifact with several (default: the first)"
    )


def _generate(commands: Any) -> None:
    p = command(
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
    p.add_argument("--ids", type=ids, required=True, metavar="A,B,...", help="the prompt")
    p.add_argument("--tokens", type=positive, default=64, help="the most to write")
    p.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest of each")
    p.add_argument("--top-k", type=positive, default=0, help="draw among so many (default: all)")
    p.add_argument("--seed", type=positive, default=1, help="of what is drawn")
    p.add_argument("--stop", type=ids, default=(), metavar="A,B,...", help="ids that end it")
    p.add_argument(
        "--emulate", action="store_true", help="run under an emulator of the program's target"
    )
    _variant(p)
    p.add_argument("--threads", type=positive, default=1, help="threads that share the work")


def _variant(p: Any) -> None:
    p.add_argument(
        "--variant",
        metavar="NAME",
        help="machine to run the code of, in a program for several (default: the best one here)",
    )


def _bench(commands: Any) -> None:
    p = command(
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
    p.add_argument("--seconds", type=seconds, default=3.0, help="duration of the measurement")
    _entry(p)
    _variant(p)
    p.add_argument("--threads", type=positive, default=1, help="threads that share the work")
    p.add_argument("--json", action="store_true", help="print the numbers as JSON")


def _report(commands: Any) -> None:
    p = command(
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
    p = command(
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
    p = command(
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
    command(commands, "targets", "list_targets", "list the machines that qir compiles for")


def _passes(commands: Any) -> None:
    command(commands, "passes", "list_passes", "list the passes and pipelines", module="opt")


def _artifact(p: Any) -> None:
    p.add_argument(
        "artifact", type=Path, help="a folder that `qir compile` or `qir compile-lm` wrote"
    )
