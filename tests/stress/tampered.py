"""Artifacts changed at random: each is refused by an error of ours, or computes the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import qir
from qir import runtime
from qir.language_net import LanguageNet
from qir.loading import look
from qir.runtime import format
from qir.runtime.errors import RuntimeFault
from tests.small_graphs import residual_network, stored_inputs
from tests.stress import sequences

POOL: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**40,
    2**45, 2**62, 2**63, 2**64, -(2**31), -(2**63), 10**30, 0.5, 1e-300, 1e300, -0.0, "", "x",
    "\x1b[2J", "\ud800", "a\nb", "../x", "/etc/passwd", "manifest.json", "weights.bin", "x" * 300,
    "模型", "0" * 64, [], [0], [1.5], [None], ["x"], [[]], [1] * 100, {}, {"a": 1}, {"bytes": 1},
)  # fmt: skip
"""Values that take the place of an entry of the manifest."""

CONTROLS = set(map(chr, range(32))) - {"\n"}


Run = Callable[[Path], list[bytes]]
"""Loads an artifact and gives what it computes."""


def check(path: Path, count: int) -> str:
    """Tamper `count` times with copies of the network at `path`."""
    return _tampered(path, count, _integers)


def check_entries(path: Path, count: int) -> str:
    """The same with the artifact of a language model, which has entries and a state."""
    return _tampered(sequences.save(path.parent), count, _logits)


def _integers(path: Path) -> list[bytes]:
    session = runtime.load(path, threads=2)
    results = session.run_integer(*stored_inputs(residual_network()))
    session.selftest()
    return [y.tobytes() for y in results]


def _logits(path: Path) -> list[bytes]:
    net = qir.load(path, threads=2)
    if not isinstance(net, LanguageNet):
        raise RuntimeFault("no language model any more")
    tokens = np.arange(min(net.max_tokens, sequences.ROOM)) % sequences.VOCABULARY
    return [net.logits(tokens).tobytes()]


def _tampered(path: Path, count: int, run: Run) -> str:
    right = run(path)
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        rng = random.Random(seed)
        kind = rng.choice(KINDS)
        copy = path.with_name("copy.qir")
        shutil.copytree(path, copy)
        try:
            kind(copy, rng)
            outcome = _outcome(copy, run, right)
        except Exception as e:
            raise AssertionError(f"seed {seed}, {kind.__name__}: {type(e).__name__}: {e}") from e
        outcomes[f"{kind.__name__} {outcome}"] += 1
        shutil.rmtree(copy)
    return ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))


def _outcome(path: Path, run: Run, right: list[bytes]) -> str:
    try:
        report = look(path).report()
        report.html()
        assert not set(str(report)) & CONTROLS, str(report)
    except qir.QirError as e:
        assert str(e).split("\n")[0].isprintable(), str(e)
    try:
        results = run(path)
    except (RuntimeFault, qir.QirError) as e:
        assert str(e).split("\n")[0].isprintable(), str(e)
        return "refused"
    assert results == right, "other values"
    return "the same"


def _some_file(path: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path.iterdir()))


def flipped(path: Path, rng: random.Random) -> None:
    """One to three bits of a file."""
    file = _some_file(path, rng)
    content = bytearray(file.read_bytes())
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """A file ends early, or goes on."""
    file = _some_file(path, rng)
    content = file.read_bytes()
    file.write_bytes(rng.choice([content[: rng.randrange(len(content))], content + b"\0", b""]))


def swapped(path: Path, rng: random.Random) -> None:
    """Two files change places."""
    a, b = rng.sample(sorted(path.iterdir()), 2)
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def replaced(path: Path, rng: random.Random) -> None:
    """No file, or something else in its place."""
    file = _some_file(path, rng)
    content = file.read_bytes()
    file.unlink()
    kind = rng.choice(["none", "pipe", "folder", "socket", "link", "loop", "outside", "endless"])
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s, _inside(path):
            s.bind(file.name)
    elif kind == "link":
        target = file.with_name("target")
        target.write_bytes(content)
        file.symlink_to(target.name)
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "outside":
        file.symlink_to("/etc/passwd")
    elif kind == "endless":
        file.symlink_to("/dev/zero")


class _inside:  # the path of a socket is short
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.before = Path.cwd()
        os.chdir(self.path)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


def resealed(path: Path, rng: random.Random) -> None:
    """Entries of the manifest changed, its hash made right again: what no damage does."""
    file = path / format.MANIFEST
    manifest = json.loads(file.read_bytes())
    versions = {key: manifest[key] for key in ("format", "abi")}
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        _change(manifest, rng)
    if not isinstance(manifest, dict):
        file.write_text(json.dumps(manifest))
        return
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    if rng.random() < 0.9:
        rest.update(versions)
    file.write_bytes(format.sealed(rest))


def _change(node: Any, rng: random.Random) -> None:
    """Replace, delete, add or double an entry somewhere below `node`."""
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.75:
            node = node[key]
            continue
        break
    action = rng.random()
    if action < 0.15:
        del node[key]
    elif action < 0.25 and isinstance(node, list):
        node.append(node[key])
    elif action < 0.4 and type(node[key]) is int:
        node[key] += rng.choice([-1, 1, 2, 64, 4096])
    else:
        node[key] = rng.choice(POOL)


def relisted(path: Path, rng: random.Random) -> None:
    """A text of the artifact changed, and its entry of the manifest made right again."""
    graphs = sorted(f.name for f in path.iterdir() if f.suffix in (".qir", ".npz"))
    file = path / rng.choice(["report.json", *graphs])
    content = bytearray(file.read_bytes())
    if file.name == "report.json" and rng.random() < 0.8:
        report = json.loads(content)
        _change(report, rng)
        content = bytearray(json.dumps(report).encode())
    else:
        at = rng.randrange(len(content))
        content[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    file.write_bytes(content)
    manifest = json.loads((path / format.MANIFEST).read_bytes())
    manifest["files"][file.name] = {"bytes": len(content), "sha256": format.digest(content)}
    (path / format.MANIFEST).write_bytes(format.sealed(manifest))


KINDS: tuple[Callable[[Path, random.Random], None], ...] = (
    flipped, cut, swapped, replaced, resealed, resealed, resealed, relisted, relisted,
)  # fmt: skip
