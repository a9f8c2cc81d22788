"""Loss against latency of networks made less deep: python -m tests.bench.depth shakespeare12

Layers side by side (--groups 4+5,6+7 for each of --bypass) and sub-layers left out (--skip, for
each of --by) are compiled as language models, together with the model as it is. Reported are nats a
token of the integer program on evaluation tokens, and the time of one token and of a chunk, all
programs in turn, a slice of time each, so that a busy moment of the machine hits them all. The zoo
has the models; --folder takes one of Hugging Face, with token ids for calibration and evaluation in
a .npz (calib, eval) of --tokens. Results go to .bench/depth.jsonl too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import qir
from qir.ir.types import Array
from qir.language_net import DECODE, PREFILL, LanguageNet
from qir.measure.timing import Timing, measure
from tests.bench.models import CACHE, zoo_module
from tests.float_decoders import nats

ROUNDS, SECONDS = 8, 0.25  # slices of each program, and their length


def main() -> None:
    given = _arguments()
    model, calibration, evaluation = _subject(given)
    evaluation = evaluation[: given.rows]
    nets: dict[str, LanguageNet] = {}
    losses: dict[str, float] = {}
    for title, asked in _configurations(given):
        net = qir.compile_lm(
            model, calibration=calibration, max_tokens=evaluation.shape[1], state=CACHE / "depth",
            prefill=given.prefill, **asked,
        )  # fmt: skip
        losses[title] = loss(net, evaluation)
        print(title, f"{losses[title]:.4f}", net.report().depth, flush=True)
        with TemporaryDirectory() as folder:
            loaded = qir.load(net.save(Path(folder) / "net.qir"), threads=given.threads)
            assert isinstance(loaded, LanguageNet)
            nets[title] = loaded
    times = timed(nets)
    _show(given, losses, times)


def _arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m tests.bench.depth", description=__doc__)
    p.add_argument("name", nargs="?", default="shakespeare12")
    p.add_argument("--folder", type=Path, help="of a Hugging Face model")
    p.add_argument("--gguf", help="file in the folder")
    p.add_argument("--tokens", type=Path, help=".npz with calib and eval")
    p.add_argument("--rows", type=int, default=64, help="sequences of evaluation")
    p.add_argument("--skip", type=_floats, default=(0.1, 0.2, 0.3), metavar="A,B,...")
    p.add_argument("--by", type=_words, default=("greedy", "one-shot", "influence"))
    p.add_argument("--distance", default="js")
    p.add_argument("--width", type=int)
    p.add_argument("--samples", type=int, default=16)
    p.add_argument("--groups", type=_words, default=("4+5,6+7", "2+3,4+5,6+7,8+9"), nargs="*")
    p.add_argument("--bypass", type=_ints, default=(0, 1, 2, -1), metavar="A,B,...")
    p.add_argument("--prefill", type=int, default=64)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--out", type=Path, default=CACHE / "depth.jsonl")
    return p.parse_args()


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _ints(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _words(text: str) -> Any:
    return text if "+" in text else tuple(text.split(","))


def _subject(given: argparse.Namespace) -> tuple[Any, Array, Array]:
    """The model, and token ids to calibrate and to evaluate with."""
    if given.folder is None:
        case = zoo_module().ZOO[given.name]
        return case.model, case.calibration(), case.inputs()
    import torch
    from transformers import AutoModelForCausalLM  # type: ignore[import-not-found,unused-ignore]

    held = np.load(given.tokens)
    model = AutoModelForCausalLM.from_pretrained(
        given.folder, gguf_file=given.gguf, dtype=torch.float32
    )
    return model.eval(), held["calib"], held["eval"]


def _configurations(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "all layers", {}
    for groups in given.groups:
        layers = tuple(tuple(map(int, group.split("+"))) for group in groups.split(","))
        for bypass in given.bypass:
            asked = qir.Concurrency(groups=layers, bypass=bypass)
            yield f"side by side {groups}, bypass {bypass}", {"concurrency": asked}
    for share in given.skip:
        for by in given.by:
            asked_skip = qir.Skip(share, given.distance, by, given.width, given.samples)
            yield f"without {share:g}, {by}", {"skip": asked_skip}


def loss(net: LanguageNet, rows: Array) -> float:
    """Nats a token, of each row read from its start."""
    return float(np.mean([nats(net.logits(row)[None], row[None]) for row in rows]))


def timed(nets: dict[str, LanguageNet]) -> dict[str, dict[str, Timing]]:
    """The time of one token in the middle of what there is room for, and of the first chunk."""
    found: dict[str, dict[str, Timing]] = {}
    for _ in range(ROUNDS):
        for title, net in nets.items():
            for entry, call in _calls(net):
                time = measure(call, SECONDS)
                known = found.setdefault(title, {})
                known[entry] = known[entry].merged(time) if entry in known else time
    return found


def _calls(net: LanguageNet) -> Iterator[tuple[str, Any]]:
    memory, middle = net.session.new_state(), np.array(net.max_tokens // 2, np.int32)
    first, last = (np.array(at, np.int32) for at in (0, net.chunk - 1))
    for entry, count, at in ((DECODE, 1, [middle]), (PREFILL, net.chunk, [first, last])):
        ids = np.ones((1, count), net.session.signature(entry).inputs[0].dtype)
        yield entry, lambda e=entry, i=ids, more=at: net.session.entries[e](memory, i, *more)


def _show(
    given: argparse.Namespace, losses: dict[str, float], times: dict[str, dict[str, Timing]]
) -> None:
    table = Table("program", "nats", "more", "token us", "ratio", "chunk us", "ratio")
    first = next(iter(losses))
    for title, value in losses.items():
        cells = [title, f"{value:.4f}", f"{value - losses[first]:+.4f}"]
        for entry in (DECODE, PREFILL):
            least = times[title][entry].least
            cells += [f"{least:.0f}", f"{least / times[first][entry].least:.3f}"]
        table.add_row(*cells)
        line = {"model": given.name, "program": title, "nats": value, "threads": given.threads}
        line |= {entry: time.least for entry, time in times[title].items()}
        given.out.parent.mkdir(exist_ok=True)
        with given.out.open("a") as f:
            f.write(json.dumps(line) + "\n")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
