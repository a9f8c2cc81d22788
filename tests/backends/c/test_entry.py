"""The entries of a program in C: their statuses, and how steps are shared out."""

from __future__ import annotations

import ctypes
import json
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from qir import runtime
from qir.backends import build
from qir.backends.c.entry import identifier
from qir.backends.c.portable import comment
from qir.backends.proofs.disassembly import functions
from qir.ir.interpret import interpret
from qir.runtime import ArtifactError, DataError, format
from qir.runtime.library import Library
from qir.runtime.memory import aligned
from tests.random_graphs import batch
from tests.runtime.test_load import resealed
from tests.small_graphs import artifact, residual_network, stored_inputs

POINTER = ctypes.c_void_p
TASK = ctypes.CFUNCTYPE(None, POINTER, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)
RUN = ctypes.CFUNCTYPE(None, POINTER, TASK, POINTER, ctypes.c_int32, ctypes.c_int32)


class QirThreads(ctypes.Structure):
    """struct qir_threads."""

    _fields_ = (("run", RUN), ("pool", POINTER), ("count", ctypes.c_int32))


class Entries:
    """The entries of an artifact, and memory for one call of each."""

    def __init__(self, loaded: runtime.Loaded) -> None:
        m, library = loaded.manifest, Library(loaded)
        self.run = library.function("run", [POINTER] * 5)
        self.run_float = library.function("run_float", [POINTER] * 6)
        self.profile = library.function("profile", [POINTER] * 6)
        self.memory = {
            key: aligned(m[f"{key}_bytes"], 128) for key in ("workspace", "weights", "stored")
        }
        self.memory["weights"][:] = np.frombuffer(loaded.files[m["weights"]], np.uint8)
        self.input = aligned(768 * 4 + m["input_slack"], 128)
        self.output, self.times = np.zeros(10 * 4, np.uint8), np.zeros(64, np.uint64)

    def call(self, entry: str, missing: str = "", moved: str = "", threads: object = None) -> int:
        """The status of a call in which a pointer is null, or another one is off by a byte."""
        at = {name: array.ctypes.data for name, array in self.memory.items()}
        pointers = {"input": self.input.ctypes.data, "output": self.output.ctypes.data}
        at = {k: None if k == missing else v + (k == moved) for k, v in at.items()}
        arrays = {k: (POINTER * 1)(None if k == missing else v) for k, v in pointers.items()}
        lists = [None if missing == f"{k}s" else arrays[k] for k in ("input", "output")]
        stored = [at["stored"]] if entry == "run_float" else []
        times = [self.times.ctypes.data] if entry == "profile" else []
        call = getattr(self, entry)
        return int(call(*lists, *stored, at["workspace"], at["weights"], threads, *times))


@pytest.fixture(scope="module")
def loaded() -> runtime.Loaded:
    return runtime.from_files(artifact().files)


@pytest.fixture(scope="module")
def entries(loaded: runtime.Loaded) -> Entries:
    return Entries(loaded)


@pytest.mark.parametrize("entry", ["run", "run_float", "profile"])
def test_null_pointers_are_status_1(entries: Entries, entry: str) -> None:
    assert entries.call(entry) == 0
    pointers = ["inputs", "outputs", "input", "output", "workspace", "weights"]
    pointers += ["stored"] if entry == "run_float" else []
    assert {name: entries.call(entry, missing=name) for name in pointers} == dict.fromkeys(
        pointers, 1
    )


@pytest.mark.parametrize("entry", ["run", "run_float", "profile"])
def test_memory_that_is_not_aligned_is_status_2(entries: Entries, entry: str) -> None:
    pointers = ["workspace", "weights"] + (["stored"] if entry == "run_float" else [])
    assert {name: entries.call(entry, moved=name) for name in pointers} == dict.fromkeys(
        pointers, 2
    )


def test_a_refused_call_writes_nothing(entries: Entries) -> None:
    for entry in ("run", "run_float"):
        entries.output[:], entries.memory["stored"][:] = 77, 77
        for fault in ({"missing": "weights"}, {"moved": "workspace"}, {"missing": "workspace"}):
            assert entries.call(entry, **fault) != 0
        assert (entries.output == 77).all() and (entries.memory["stored"] == 77).all()


def test_a_status_becomes_an_error(loaded: runtime.Loaded) -> None:
    session = runtime.Session(loaded)
    box = session._boxes[0]
    box.memory = (box.memory[0] + 1, 0)
    with pytest.raises(ArtifactError, match="small: its code gave status 1, 0 is needed"):
        session.run_integer(*stored_inputs(residual_network()))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_steps_are_shared_out_in_pieces_of_any_order(entries: Entries, count: int) -> None:
    """A parallel-for of the caller's, which does the pieces backwards, with any thread number."""
    inputs = stored_inputs(residual_network())
    entries.input[:768] = np.frombuffer(inputs[0].tobytes(), np.uint8)
    results: list[tuple[int, int, int]] = []

    def run(pool: int, task: ctypes._FuncPointer, context: int, units: int, grain: int) -> None:
        cuts = [*range(0, units, grain), units]
        results.append((units, grain, len(cuts) - 1))
        pieces = list(pairwise(cuts))
        for i, (begin, end) in enumerate(reversed(pieces)):
            task(context, begin, end, i % count)

    threads = QirThreads(RUN(run), 0x5EED, count)
    entries.output[:] = 0
    assert entries.call("run", threads=ctypes.addressof(threads)) == 0
    (expected,) = interpret(residual_network(), inputs)
    assert entries.output[:10].tobytes() == expected.tobytes()
    # Without this no test would notice that work is never split.
    assert len(results) >= 2 and all(1 <= grain < units and n > 1 for units, grain, n in results)


def test_a_manifest_of_other_sizes_is_refused(loaded: runtime.Loaded) -> None:
    files, m = dict(artifact().files), loaded.manifest
    port, step = m["inputs"][0], m["steps"][0]
    golden = {"golden": {**m["golden"], "cases": 0}}
    empty = json.loads(files[format.MANIFEST])["files"]
    empty["golden.bin"] = {"bytes": 0, "sha256": format.digest(b"")}
    files["golden.bin"] = b""
    cases = {
        "workspace_bytes": {"workspace_bytes": m["workspace_bytes"] - 1},
        "stored_bytes": {"stored_bytes": 0},
        "alignment": {"alignment": 16},
        "input_slack": {"input_slack": 0},
        "steps": {"steps": [step] * (len(m["steps"]) - 1)},
        "sizes": {"inputs": []},
        "bytes of 'x'": {"inputs": [{**port, "shape": [1, 1, 1, 1]}]},
    }
    for what, change in cases.items():
        changed = resealed(files, {**golden, "files": empty, **change})
        with pytest.raises(ArtifactError, match=f"artifact small: {what} .* in its code, equal "):
            runtime.Session(runtime.from_files(changed))


@pytest.mark.parametrize("threads", [0, -1, True, 2.0, "2", None])
def test_a_number_of_threads_is_a_positive_integer(loaded: runtime.Loaded, threads: object) -> None:
    with pytest.raises(DataError, match=r"artifact small: .* threads, at least 1 is needed"):
        runtime.Session(loaded, threads)  # type: ignore[arg-type]


NAMES = ("a*/b", 'a"b', "a\\\nb", "??/", "\x1b[2J", "x" * 300, "while", "模型", "int", "++", "7")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_c_identifier_of_a_length_for_files(name: str) -> None:
    made = identifier(name)
    assert made.isidentifier() and made.isascii() and len(made) <= 100
    assert identifier(made) == made


@pytest.mark.parametrize("text", NAMES)
def test_any_text_can_stand_in_a_comment(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(f"{comment(text)}\nint a; {comment(text * 3)}\n")
    done = subprocess.run(
        ["cc", "-std=c99", "-trigraphs", "-Wall", "-Wextra", "-Werror", "-c", "a.c"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_border_of_many_values_is_compiled_one_by_one() -> None:
    """Merged into `run_float` they took a compiler of the kind that inlines minutes."""
    many = build(batch(range(3)), "hexagon-v68", "many")
    functions_by_name = {f.name: f for f in functions(many.files["libmany.a"], many.target)}
    borders = {name for name in functions_by_name if "quantize_" in name}
    assert len(borders) == len(many.manifest["inputs"]) + len(many.manifest["outputs"])
    assert borders < functions_by_name["many_run_float"].references
