"""The commands opt, cases and passes: passes on graphs in text, and their list."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import getdoc
from pathlib import Path
from pkgutil import walk_packages

from rich.text import Text

import qir.passes
from qir.cli.console import console
from qir.ir.errors import DataError, PassError, QirError
from qir.ir.graph import Graph
from qir.ir.text.file import load_graph, save_graph
from qir.ir.text.parser import parse
from qir.ir.text.printer import text
from qir.models import imported
from qir.passes import pipelines
from qir.passes.case_file import check, read_cases, update
from qir.passes.infra.manager import (
    ENTRY_POINTS,
    PASSES,
    Manager,
    Pass,
    Pipeline,
    Record,
    find,
    parsed,
)
from qir.passes.infra.options import described
from qir.report.tables import table


def run_passes(options: Namespace) -> None:
    """Text in, passes, text out; misses of the pass to explain go to stderr."""
    if options.passes and options.pipeline:
        raise DataError("--passes and --pipeline given, one of them is needed")
    load_all()
    todo = _todo(options)
    graph = _graph(options.graph)
    manager = Manager(check=options.check)
    after = manager.run(graph, todo)
    if options.output is None:
        print(text(after), end="")
    else:
        save_graph(after, options.output)
    if options.explain:
        _explain(options.explain, manager.records, graph, after)


def _todo(options: Namespace) -> Pipeline | tuple[Pass, ...]:
    if options.pipeline:
        pipelines = named_pipelines()
        if options.pipeline not in pipelines:
            names = ", ".join(pipelines)
            raise PassError(f"pipeline {options.pipeline}: not known, one of {names} is needed")
        return pipelines[options.pipeline]
    listed = options.passes or options.explain
    if not listed:
        raise DataError("no pass to run: --passes, --pipeline or --explain is needed")
    return parsed(listed)


def _graph(name: str) -> Graph:
    if name == "-":
        return parse(sys.stdin.read())
    path = Path(name)
    if path.is_dir():
        raise DataError(f"{path}: a folder, a graph is needed", f"{path / 'graph.qir'}?")
    if not path.exists():
        raise DataError(f"{path}: no such file, a graph is needed")
    return imported(path) if path.suffix == ".onnx" else load_graph(path)


def _explain(name: str, records: list[Record], before: Graph, after: Graph) -> None:
    """One line for each op that the pass left alone: where, where from, why."""
    ran = [r for r in records if r.name == name]
    if not ran:
        names = ", ".join(dict.fromkeys(r.name for r in records))
        raise PassError(f"pass {name}: not among those that ran, one of {names} is needed")
    places = _places(before) | _places(after)
    for record in ran:
        print(f"{name}: {record.rewrites} rewrites, {len(record.misses)} misses", file=sys.stderr)
        for miss in record.misses:
            where = f"%{miss.at}" if miss.at else "the graph"
            print(f"  {where}{places.get(miss.at, '')}: {miss.why}", file=sys.stderr)


def _places(graph: Graph) -> dict[str, str]:
    """Mnemonic and source of each value's op."""
    return {
        name: f" ({op.mnemonic}{', ' if op.loc.source else ''}{op.loc.source})"
        for name, op in graph.producers.items()
    }


def run_cases(options: Namespace) -> None:
    """Every case of the files; the faults of all of them as one error."""
    load_all()
    failed: list[QirError] = []
    count = 0
    for file in options.files:
        if not file.is_file():
            raise DataError(f"{file}: no such file, a case file is needed")
        if options.update:
            update(file)
        for case in read_cases(file):
            count += 1
            try:
                check(case)
            except QirError as e:
                failed.append(e)
    if failed:
        lines = (f"  {line}" for e in failed for line in str(e).split("\n"))
        raise PassError((f"{len(failed)} of {count} cases fail", *lines))
    print(f"{count} cases pass")


def list_passes(options: Namespace) -> None:
    """Every pass of ours and of installed packages, then the pipelines."""
    load_all()
    points = list(others())
    out = console()
    rows = []
    for name, cls in sorted(PASSES.items()):
        has = f"; options {described(cls)}" if described(cls) else ""
        description = f"{first_sentence(cls)}\n{cls.claim}{has}; {cls.__module__}"
        rows.append((Text(name), Text(description)))
    rows += [(Text(point.name), Text(f"{_fault(point)}; {point.value}")) for point in points]
    heads = ("name", "what it does, what it claims, where it is")
    out.print(table("Passes", heads, rows, out.width, wrap=heads[1:], lines_after=range(len(rows))))
    order = [
        (name, pipeline.stage, Text(" ".join(p.name for p in pipeline.passes)))
        for name, pipeline in named_pipelines().items()
    ]
    columns = ("name", "result", "passes, in order")
    out.print(table("Pipelines", columns, order, out.width, wrap=columns[2:]))


def load_all() -> None:
    """Import every module of qir.passes: a pass is known once its file is."""
    for module in walk_packages(qir.passes.__path__, "qir.passes."):
        import_module(module.name)


def named_pipelines() -> Mapping[str, Pipeline]:
    """The pipelines that are fixed, by name."""
    return {p.name: p for p in vars(pipelines).values() if isinstance(p, Pipeline)}


def others() -> Iterator[EntryPoint]:
    """Entry points that give no pass: packages that are broken. The others are known after this."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            find(point.name)
        except Exception:  # another's package may fail in any way; it is listed, not run
            yield point


def _fault(point: EntryPoint) -> str:
    try:
        point.load()
    except Exception as e:
        return f"cannot be loaded: {type(e).__name__}: {e}"
    return "is no pass, or its name is taken"


def first_sentence(cls: type[Pass]) -> str:
    """The docstring up to its first empty line: before -> after."""
    return " ".join((getdoc(cls) or "").partition("\n\n")[0].split())
