"""Loss and latency of networks made less deep: python -m tests.bench.depth shakespeare12

Without a flag: nats a token of the float network above the full one's, for each number of
sub-layers left out (by the search, by what each does alone, by block influence) and for each number
of layers side by side with each bypass. Every measured part is kept in .bench/depth; a command that
was interrupted goes on from there. With --latency: the time of a token and of a chunk of artifacts
of some of them; --build compiles these and times nothing (on a machine that is not idle). Results
are in .bench/depth-MODEL.json and .bench/depth-MODEL-latency.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from qir.ir.types import Array
from qir.measure.code_version import source
from qir.passes.infra.tasks import Store
from qir.passes.transform.depth.distances import Distance
from qir.passes.transform.depth.requests import GREEDY, INFLUENCE, ONE_SHOT, Shallower, Skip
from tests.bench.depth.curves import Curves
from tests.bench.depth.latency import built, chosen, timed
from tests.bench.depth.subjects import NAMES, Subject, subject
from tests.bench.models import CACHE


def main() -> None:
    given = arguments()
    file = CACHE / f"depth-{given.name}.json"
    if not (given.latency or given.build):
        curves(given, subject(given.name), file)
        return
    if not file.exists():
        raise SystemExit(f"error: {file}: no such file\nhint: run without --latency before")
    files = built(given.name, chosen(json.loads(file.read_text())))
    if given.latency:
        lines = list(timed(files, given.threads))
        _write(file.with_name(f"{file.stem}-latency.json"), lines)
        _show(lines, ("program", "decode", "decode_ratio", "prefill", "prefill_ratio"))


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m tests.bench.depth", description=__doc__)
    p.add_argument("name", choices=NAMES)
    p.add_argument("--build", action="store_true")
    p.add_argument("--latency", action="store_true")
    p.add_argument("--threads", type=int, default=2, help="of programs; of searches, tasks at once")
    p.add_argument("--rows", type=int, help="to judge on (64; 16 of smollm2)")
    p.add_argument("--calibration", type=int, help="rows to search on (64; 8 of smollm2)")
    p.add_argument("--count", type=int, help="sub-layers left out (a half; a quarter of smollm2)")
    p.add_argument("--pairs", type=int, help="groups at most (a third of the layers)")
    p.add_argument("--members", type=int, nargs="+", default=[2], help="layers of a group")
    p.add_argument("--simulated", type=int, nargs="+", default=[], metavar="COUNT",
                   help="sub-layers left out, with which 8 bits are simulated too")  # fmt: skip
    p.add_argument("--distance", default=Distance.KL.value, choices=[d.value for d in Distance])
    p.add_argument("--by", nargs="+", default=[GREEDY, ONE_SHOT, INFLUENCE])
    p.add_argument("--width", type=int, default=8, help="tried in a round at least; 0: all")
    return p.parse_args(given)


def curves(given: argparse.Namespace, of: Subject, file: Path) -> dict[str, Any]:
    """The curves that are asked for, with those of other ways that the file has."""
    is_large = of.name == "smollm2"
    store = Store(CACHE / "depth", source("qir.ir", "qir.passes"))
    made = Curves(
        of,
        spread(of.case.calibration, given.calibration or (8 if is_large else 64)),
        spread(of.case.tokens, given.rows or (16 if is_large else 64)),
        store,
        given.threads,
    )
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    found |= {"model": of.name, "sublayers": len(of.parts), "rows": list(made.evaluation.shape)}
    found["float"] = made.float_nats
    count = given.count or len(of.parts) // (4 if is_large else 2)
    for by in given.by:
        kept = [one for one in found.get("removed", []) if (one["by"], one["distance"]) !=
                (by, given.distance)]  # fmt: skip
        new = []
        for one in made.removals(by, Distance(given.distance), count, given.width or None):
            if one["count"] in given.simulated:
                asked = Shallower(Skip(names=tuple(one["names"]), samples=1))
                one["simulated"] = made.simulated(asked)
            new.append(one)
            print(json.dumps(one), flush=True)
            _write(file, found | {"removed": [*kept, *new]})
        found["removed"] = [*kept, *new]
    found["groups"] = []
    for members in given.members:
        most = given.pairs or len(of.parts) // 6
        for one in made.groups(members, most):
            found["groups"].append(one)
            print(json.dumps(one), flush=True)
    _write(file, found)
    _show(found["removed"], ("by", "distance", "count", "nats"))
    _show(found["groups"], ("groups", "bypass", "nats"))
    return found


def spread(rows: Array, count: int) -> Array:
    """`count` of the rows, evenly over all."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)].astype(np.int64)


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=1))


def _show(lines: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    table = Table(*columns)
    for line in lines:
        cells = (line[name] for name in columns)
        table.add_row(*(f"{x:.4f}" if isinstance(x, float) else str(x) for x in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
