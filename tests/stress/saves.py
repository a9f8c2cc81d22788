"""Processes that save to one path at the same time, some killed: readers see complete artifacts."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from qir import runtime
from qir.loading import look

SAVER = """
import sys
from qir.loading import look
net = look(sys.argv[1])
print("ready", flush=True)
while True:
    net.save(sys.argv[2])
"""
SAVERS = 3


def check(path: Path, count: int) -> str:
    """`count` reads while three processes save, one of which is killed now and then."""
    target, rng, killed = path.parent / "out" / "small.qir", random.Random(0), 0
    expected = runtime.read(path).sha256
    look(path).save(target)
    savers = [_saver(path, target) for _ in range(SAVERS)]
    try:
        for _ in range(count):
            assert runtime.read(target).sha256 == expected
            if rng.random() < 0.2:
                killed += 1
                one = savers.pop(0)
                one.kill()
                one.communicate()
                savers.append(_saver(path, target))
            time.sleep(rng.uniform(0, 0.01))
    finally:
        for saver in savers:
            saver.kill()
            _, errors = saver.communicate()
            assert not errors, errors
    look(path).save(target)
    left = [p.name for p in target.parent.iterdir() if p != target]
    assert not left, left
    return f"{killed} killed, nothing left"


def _saver(path: Path, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVER, str(path), str(target)]
    saver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert saver.stdout is not None
    assert saver.stdout.readline() == "ready\n", saver.communicate()[1]
    return saver
