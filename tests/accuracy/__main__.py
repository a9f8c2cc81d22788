"""Float against integers: python -m tests.accuracy --models resnet8 stories260k minilm vit

Without a name all networks of the zoo. Each model is compiled with its calibration inputs, and the
artifact runs all its evaluation inputs. Of networks of the zoo (ONNX Runtime runs the float model):
the metric of each, on how many inputs both name the same class, the least cosine of all outputs,
and with --exact N on how many of N inputs the artifact has the bits of the exact interpreter. Of
language models: nats a token, the KL divergence of the float model's distribution from the
integers', how often both prefer the same token. Of encoders: signal to noise of the outputs, and of
sentence embeddings cosines and the order of the nearest pairs; --peer quantizes the same model by
ONNX Runtime. Models out of packages that are not installed are left out, by name. Results go to
.bench/accuracy.jsonl too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.accuracy import encoders, language, networks
from tests.accuracy.packages import Absent
from tests.bench.models import CACHE, LANGUAGE, zoo_module

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
Measure = Callable[[str], dict[str, Any]]


def main() -> None:
    args = _arguments()
    expected = [*args.names, *args.models] or _networks()
    kinds: list[tuple[Sequence[str], Sequence[str], Measure, Callable[..., list[str]]]] = [
        (
            language.NAMES,
            language.HEADS,
            lambda n: language.measured(n, args.bits),
            language.cells,
        ),
        (
            encoders.NAMES,
            encoders.HEADS,
            lambda n: encoders.measured(n, args.bits, args.size, args.peer),
            encoders.cells,
        ),
        (
            _networks(),
            networks.HEADS,
            lambda n: networks.measured(n, args.bits, args.observer, args.exact),
            networks.cells,
        ),
    ]
    known = [name for names, *_ in kinds for name in names]
    if unknown := [name for name in expected if name not in known]:
        raise SystemExit(f"error: model {unknown[0]}: not known\nhint: {', '.join(known)}")
    for names, heads, measure, cells in kinds:
        items = [name for name in expected if name in names]
        if items:
            _print(items, heads, measure, cells, args)


def _print(
    names: Sequence[str],
    heads: Sequence[str],
    measure: Measure,
    cells: Callable[..., list[str]],
    given: argparse.Namespace,
) -> None:
    table = Table("model", title=f"{given.bits} bits")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name in names:
        try:
            timings = measure(name)
        except Absent as e:
            console.print(f"{name}: left out, {e}")
            continue
        CACHE.mkdir(exist_ok=True)
        with given.out.open("a") as f:
            print(json.dumps({"bits": given.bits, **timings}), file=f)
        table.add_row(name, *cells(timings))
        console.print(timings, soft_wrap=True)
    console.print(table)


def _networks() -> list[str]:
    """Networks of the zoo, nothing where there is no zoo."""
    try:
        return [name for name in zoo_module().ZOO if name not in LANGUAGE]
    except SystemExit:
        return []


def _arguments() -> argparse.Namespace:
    about = (__doc__ or "").splitlines()[0]
    p = argparse.ArgumentParser(prog="python -m tests.accuracy", description=about)
    p.add_argument("names", nargs="*", help="models; all networks of the zoo without a name")
    p.add_argument("--models", nargs="+", default=[], help="more of them")
    p.add_argument("--bits", default="8", help="8, or a text like w4g32a8 (language models)")
    p.add_argument("--observer", default="mse", help="of networks of the zoo")
    p.add_argument("--exact", type=int, default=0, metavar="N", help="of networks of the zoo")
    p.add_argument("--size", default="small", choices=encoders.SIZES, help="of encoders")
    p.add_argument("--peer", action="store_true", help="ONNX Runtime's int8 of encoders too")
    p.add_argument("--out", type=Path, default=CACHE / "accuracy.jsonl")
    args = p.parse_args()
    args.bits = int(args.bits) if args.bits.isdigit() else args.bits
    return args


if __name__ == "__main__":
    main()
