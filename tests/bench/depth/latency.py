"""The time of a token and of a chunk of artifacts, all in turn: a busy moment hits them all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import qir
from qir.language_net import DECODE, PREFILL, LanguageNet
from qir.measure.timing import Timing, measure
from tests.bench.depth.subjects import subject
from tests.bench.models import CACHE, source_hash

ROUNDS, SECONDS = 12, 0.25  # slices of each program, and their length
CHUNK = 64
Asked = Mapping[str, Any]


def chosen(curves: Mapping[str, Any]) -> dict[str, Asked]:
    """What is compiled: all layers; the removals of a quarter, a sixth and a twelfth of the
    sub-layers by the search; the most and half of the most pairs, each with the bypass that loses
    least, and as one op each.
    """
    found: dict[str, Asked] = {"all layers": {}}
    greedy = {len(one["names"]): one for one in curves["removed"] if one["by"] == "greedy"}
    for count in sorted({round(curves["sublayers"] / n) for n in (12, 6, 4)} & set(greedy)):
        skip = qir.Skip(names=tuple(greedy[count]["names"]), samples=1)
        found[f"{count} left out"] = {"skip": skip}
    pairs = [one for one in curves["groups"] if len(one["groups"][0]) == 2]
    most = max((len(one["groups"]) for one in pairs), default=0)
    for count in sorted({-(-most // 2), most} - {0}):
        of_count = [one for one in pairs if len(one["groups"]) == count]
        narrow = min((one for one in of_count if one["bypass"] >= 0), key=lambda one: one["nats"])
        for one in (narrow, next(one for one in of_count if one["bypass"] == -1)):
            groups = tuple(map(tuple, one["groups"]))
            asked = qir.Concurrency(groups=groups, bypass=one["bypass"])
            found[f"{count} pairs, bypass {one['bypass']}"] = {"concurrency": asked}
    return found


def built(name: str, configurations: Mapping[str, Asked]) -> dict[str, Path]:
    """The artifact of each, made once for each state of the source; few rows calibrate it, and its
    outliers stay: neither is of weight for its time.
    """
    stem, found = f"depth-{name}", dict[str, Path]()
    for old in CACHE.glob(f"{stem}-*.qir"):
        if source_hash()[:16] not in old.name:
            shutil.rmtree(old, ignore_errors=True)
    for title, asked in configurations.items():
        kind = json.dumps({key: repr(value) for key, value in asked.items()})
        label = f"{stem}-{title.replace(' ', '_').replace(',', '')}"
        file = found[title] = CACHE / f"{label}-{source_hash()[:16]}-{_digest(kind)}.qir"
        if not file.is_dir():
            case = subject(name).case
            qir.compile_lm(
                case.model, calibration=case.calibration[:2], max_tokens=case.tokens.shape[1],
                prefill=CHUNK, outliers=None, name=stem.replace("-", "_"), **asked,
            ).save(file)  # fmt: skip
            print("compiled", title, flush=True)
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def timed(files: Mapping[str, Path], threads: int) -> Iterator[dict[str, Any]]:
    """The least time of one token in the middle of what there is room for, and of the first chunk,
    in microseconds, and what they are of those of the first artifact.
    """
    nets = {title: _loaded(file, threads) for title, file in files.items()}
    found: dict[str, dict[str, Timing]] = {}
    for _ in range(ROUNDS):
        for title, net in nets.items():
            for entry, call in _calls(net):
                time = measure(call, SECONDS)
                known = found.setdefault(title, {})
                known[entry] = known[entry].merged(time) if entry in known else time
    first = found[next(iter(files))]
    for title, times in found.items():
        line: dict[str, Any] = {"program": title, "threads": threads}
        for entry, time in times.items():
            line[entry] = round(time.least, 1)
            line[f"{entry}_ratio"] = round(time.least / first[entry].least, 4)
        yield line


def _loaded(file: Path, threads: int) -> LanguageNet:
    net = qir.load(file, threads=threads)
    assert isinstance(net, LanguageNet)
    return net


def _calls(net: LanguageNet) -> Iterator[tuple[str, Callable[[], object]]]:
    memory, middle = net.session.new_state(), np.array(net.max_tokens // 2, np.int32)
    first, last = (np.array(at, np.int32) for at in (0, net.chunk - 1))
    for entry, count, at in ((DECODE, 1, [middle]), (PREFILL, net.chunk, [first, last])):
        ids = np.ones((1, count), net.session.signature(entry).inputs[0].dtype)
        yield entry, lambda e=entry, i=ids, more=at: net.session.entries[e](memory, i, *more)
