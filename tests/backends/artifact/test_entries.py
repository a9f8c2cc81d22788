"""Artifacts of several entries that share weights and a state: equal to the interpreter."""

from __future__ import annotations

import ctypes
import json
import platform
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qir import runtime
from qir.backends import build
from qir.backends.artifact.artifact import Artifact
from qir.backends.lowering import variants
from qir.backends.targets import find
from qir.ir.errors import LowerError, VerifyError
from qir.ir.graph import Graph
from qir.ir.ops import Constant, Take
from qir.ir.states import StateMemory
from qir.ir.text.parser import parse
from qir.ir.text.printer import text
from qir.ir.types import I8, I32, Array, Quant, Tensor
from qir.runtime import ArtifactError, DataError, Program, format
from qir.runtime.library import Library
from qir.runtime.machine import cpu_flags
from tests.backends.stateful_graphs import CHANNELS, entries, recurrent
from tests.emulated.harness import need_emulator
from tests.small_graphs import Small, residual_network

POINTER = ctypes.c_void_p
X86 = [v.name for v in find("x86").variants]
WARNINGS = ("-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror")


@cache
def built(target: str = "cpu") -> Artifact:
    return build(entries(), target, "net")


@cache
def loaded(target: str = "cpu") -> runtime.Loaded:
    return runtime.from_files(built(target).files)


@pytest.fixture(scope="module")
def session() -> runtime.Session:
    return runtime.Session(loaded())


def tokens(count: int, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).integers(0, 256, (1, count, CHANNELS))
    return values.astype(np.uint8)


def assert_calls_are_the_interpreters(program: Program, calls: Sequence[tuple[str, Array]]) -> None:
    """Outputs and the state, every bit, of calls one after the other."""
    memory, state = StateMemory(*entries().values()), program.new_state()
    outputs = program.run_calls(state, [(name, [x]) for name, x in calls])
    for (name, x), actual in zip(calls, outputs, strict=True):
        for y, expected in zip(actual, memory.call(entries()[name], [x]), strict=True):
            assert y.dtype == expected.dtype and np.array_equal(y, expected), name
    for entry in program.manifest["states"]:
        expected = memory.arrays[entry["name"]]
        at = entry["offset"]
        assert state[at : at + expected.nbytes].tobytes() == expected.tobytes(), entry["name"]


CALLS = [
    ("prefill", tokens(4)), ("decode", tokens(1)), ("decode", tokens(1, 2)),
    ("prefill", tokens(4, 3)), ("decode", tokens(1, 4)),
]  # fmt: skip


def test_calls_equal_the_interpreter(session: runtime.Session) -> None:
    assert list(session.entries) == ["decode", "prefill"] and session.inputs == ()
    assert_calls_are_the_interpreters(session, CALLS)
    assert session.selftest() == 4


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
@pytest.mark.parametrize("variant", X86)
def test_every_variant_does(variant: str) -> None:
    needs = next(v.needs for v in find("x86").variants if v.name == variant)
    if not set(needs) <= cpu_flags():
        pytest.skip(f"this CPU lacks {', '.join(set(needs) - cpu_flags())}")
    session = runtime.Session(loaded("x86"), variant=variant)
    assert session.variant == variant
    assert_calls_are_the_interpreters(session, CALLS)
    of = loaded("x86").manifest["entries"][1]["variants"][X86.index(variant)]
    assert session.entries["prefill"].steps == of["steps"]


def test_portable_c_does() -> None:
    assert_calls_are_the_interpreters(runtime.Session(loaded("c")), CALLS)


@pytest.mark.parametrize("target", ["aarch64", "arm", "riscv64", "cortex-m4", "hexagon-v68"])
def test_emulated_machines_do(target: str) -> None:
    need_emulator(target)
    assert_calls_are_the_interpreters(runtime.opened(loaded(target), emulate=True), CALLS)


def test_floats_pass_the_border(session: runtime.Session) -> None:
    state, other = session.new_state(), session.new_state()
    entry = session.entries["prefill"]
    x = ((tokens(4).astype(np.float32) - 128) * np.float32(0.02)).astype(np.float32)
    (stored,) = entry.run_integer(other, tokens(4))
    assert np.array_equal(entry(state, x), stored.astype(np.float32) * np.float32(0.05))
    assert np.array_equal(state, other)


def test_a_state_is_saved_and_restored(session: runtime.Session) -> None:
    state, decode = session.new_state(), session.entries["decode"]
    decode.run_integer(state, tokens(1))
    saved = state.tobytes()
    first = decode.run_integer(state, tokens(1, 1))
    again = decode.run_integer(session.new_state(saved), tokens(1, 1))
    new = decode.run_integer(session.new_state(), tokens(1, 1))
    assert np.array_equal(first[0], again[0]) and not np.array_equal(first[0], new[0])
    state[:] = np.frombuffer(saved, np.uint8)
    assert np.array_equal(decode.run_integer(state, tokens(1, 1))[0], first[0])


def test_threads_with_states_of_their_own(session: runtime.Session) -> None:
    def run(seed: int) -> Array:
        state, decode = session.new_state(), session.entries["decode"]
        return np.concatenate([decode.run_integer(state, tokens(1, seed + i))[0]
                               for i in range(50)])  # fmt: skip

    alone = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for actual, expected in zip(pool.map(run, range(4)), alone, strict=True):
            assert np.array_equal(actual, expected)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, "the state is a NoneType, uint8.* is needed"),
        (np.zeros(3, np.uint8), r"the state is uint8\[3\], uint8\[\d+\] is needed"),
        (np.zeros(256, np.int8), r"the state is int8\[256\], uint8\[\d+\] is needed"),
    ],
)
def test_what_is_no_state_is_refused(session: runtime.Session, state: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        session.entries["decode"].run_integer(state, tokens(1))


def test_a_state_that_lies_wrong_is_refused(session: runtime.Session) -> None:
    size = session.manifest["state_bytes"]
    off = session.new_state()
    room = np.zeros(size + 256, np.uint8)
    start = -room.ctypes.data % 128 + 1
    fixed = off.copy() if off.ctypes.data % 128 else off[:]
    fixed.flags.writeable = False
    for state in (room[start : start + size], fixed):
        with pytest.raises(DataError, match="is not writable memory at a multiple of"):
            session.entries["decode"].run_integer(state, tokens(1))


def test_saved_bytes_that_are_no_state_are_refused(session: runtime.Session) -> None:
    with pytest.raises(DataError, match=r"saved state of uint8\[2\], uint8\[\d+\] is needed"):
        session.new_state(b"ab")


def test_calls_need_an_entry(session: runtime.Session) -> None:
    for call in (lambda: session(tokens(1)), lambda: session.run_integer(tokens(1))):
        with pytest.raises(DataError, match="has the entries decode, prefill, one of them is"):
            call()
    with pytest.raises(DataError, match="entry 'other', one of those it has is needed: decode"):
        session.run_calls(session.new_state(), [("other", [tokens(1)])])
    single = Program(runtime.from_files(build(residual_network()).files))
    assert dict(single.entries) == {}
    with pytest.raises(DataError, match="has no state, an entry is needed"):
        single.new_state()


def test_inputs_that_do_not_fit_leave_the_state(session: runtime.Session) -> None:
    state, entry = session.new_state(), session.entries["decode"]
    before = state.copy()
    for given in ([], [tokens(2)], [tokens(1).astype(np.int32) + 300]):
        with pytest.raises(DataError):
            entry.run_integer(state, *given)
    assert np.array_equal(state, before)


def test_steps_are_timed(session: runtime.Session) -> None:
    entry = session.entries["prefill"]
    timed = entry.profile(session.new_state(), tokens(4))
    assert [step for step, _ in timed] == entry.steps and len(timed) > len(
        session.entries["decode"].steps
    )


# -- C


class InC:
    """The entry `decode` and the reset, with memory for a call."""

    def __init__(self) -> None:
        m, library = loaded().manifest, Library(loaded())
        self.run = library.function("decode_run", [POINTER] * 6)
        self.run_float = library.function("decode_run_float", [POINTER] * 7)
        self.reset = library.function("reset_state", [POINTER], None)
        sizes = {k: m[f"{k}_bytes"] for k in ("workspace", "weights", "state")}
        sizes["stored"] = m["entries"][0]["stored_bytes"]
        self.memory = {k: runtime.memory.aligned(size, 128) for k, size in sizes.items()}
        self.memory["weights"][:] = np.frombuffer(loaded().files["weights.bin"], np.uint8)
        self.input, self.output = np.ones(64, np.float32), np.zeros(64, np.float32)

    def call(self, missing: str = "", moved: str = "", is_float: bool = False) -> int:
        at = {k: a.ctypes.data + (k == moved) for k, a in self.memory.items()}
        at = {k: None if k == missing else v for k, v in at.items()}
        arrays = [(POINTER * 1)(a.ctypes.data) for a in (self.input, self.output)]
        scratch = [at["stored"]] if is_float else []
        function = self.run_float if is_float else self.run
        return int(function(*arrays, *scratch, at["state"], at["workspace"], at["weights"], None))


@pytest.mark.parametrize("is_float", [False, True])
def test_statuses_in_c(is_float: bool) -> None:
    c = InC()
    c.reset(c.memory["state"].ctypes.data)
    new = c.memory["state"].copy()
    assert np.array_equal(new, runtime.Session(loaded()).new_state())
    for name in ("state", "workspace", "weights"):
        assert c.call(missing=name, is_float=is_float) == 1
        assert c.call(moved=name, is_float=is_float) == 2
        assert np.array_equal(c.memory["state"], new)
    assert c.call(is_float=is_float) == 0
    assert not np.array_equal(c.memory["state"], new)


@pytest.mark.parametrize("target", ["cpu", "x86", "c"])
def test_the_selftest_in_c_has_no_warnings(target: str, tmp_path: Path) -> None:
    folder = built(target).save(tmp_path / "net.qir")
    sources = ["net.c", "net_border.c"] if target == "c" else ["libnet.a"]
    flags = [f.replace("c11", "c99") if target == "c" else f for f in WARNINGS]
    command = ["cc", "-O1", *flags, "net_test.c", *sources, "-lpthread", "-o", tmp_path / "t"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run([tmp_path / "t", folder], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"net: 4 calls, \d+ bytes of output, 0 wrong\n", done.stdout)
    golden = bytearray((folder / "golden.bin").read_bytes())
    golden[-1] ^= 1
    (folder / "golden.bin").write_bytes(golden)
    done = subprocess.run([tmp_path / "t", folder], capture_output=True, text=True)
    assert done.returncode == 1 and ", 1 wrong" in done.stdout


def test_the_readme_calls_it(tmp_path: Path) -> None:
    folder = built().save(tmp_path / "net.qir")
    page = (folder / "README.md").read_text()
    code = page.split("```c\n")[1].split("```")[0]
    main = "\nint main(void) { return compute(); }\n"
    (folder / "main.c").write_text(code + main)
    subprocess.run(
        ["cc", "main.c", "net_weights.S", "libnet.a", "-lpthread", "-o", tmp_path / "t"],
        cwd=folder, check=True,
    )  # fmt: skip
    subprocess.run([tmp_path / "t"], check=True)
    assert "`net_decode_run`, `net_prefill_run` are called" in page
    assert f"| state, the caller's | {built().manifest['state_bytes']:,} |" in page


# -- what is shared


def test_equal_constants_are_there_once() -> None:
    alone = [len(build(g, "cpu", "net").files["weights.bin"]) for g in entries().values()]
    assert len(built().files["weights.bin"]) < sum(alone)
    assert built().manifest["workspace_bytes"] == max(
        p.workspace_bytes for p in variants.lower_all(entries(), find("cpu"), "net")
    )


def test_the_same_graphs_give_the_same_bytes() -> None:
    again = build(entries(), "cpu", "net")
    assert {n: c for n, c in again.files.items() if built().files[n] != c} == {}


def test_a_graph_with_states_has_the_entry_call() -> None:
    session = runtime.Session(runtime.from_files(build(recurrent(2), "cpu").files))
    assert list(session.entries) == ["call"] and session.selftest() == 2


@pytest.mark.parametrize(
    ("graphs", "why"),
    [
        ({}, "artifact: 0 entries, one or more are needed"),
        ({"a b": recurrent(1)}, "entry 'a b': a C identifier in lower case is needed"),
        ({"Call": recurrent(1)}, "entry 'Call': a C identifier in lower case is needed"),
        ({"int": recurrent(1)}, "entry 'int': a C identifier in lower case is needed"),
    ],
)
def test_entries_that_cannot_be_are_refused(graphs: dict[str, Graph], why: str) -> None:
    with pytest.raises(LowerError, match=why):
        build(graphs)


def test_states_of_one_name_are_of_one_type() -> None:
    wider = text(recurrent(1)).replace("%recent", "%total9").replace("%total", "%recent")
    with pytest.raises(VerifyError, match=r"state %recent: tensor<1x3x12.* in one graph and"):
        build({"a": recurrent(1), "b": parse(wider.replace("%recent9", "%total"))})


def test_indexes_of_a_program_without_entries_are_checked() -> None:
    b = Small("rows")
    ids = b.input("ids", Tensor((3,), I32))
    table = b.add(Constant.of(np.arange(20).reshape(5, 4), Quant.per_tensor(I8, 0.5, 0)))
    graph = b.finish([b.add(Take(table, ids))])
    artifact = build(graph, "cpu")
    assert artifact.manifest["abi"] == format.ABI
    assert "int32[3], in [0, 4]" in artifact.files["rows.h"].decode()
    session = runtime.Session(runtime.from_files(artifact.files))
    (rows,) = session.run_integer(np.array([4, 0, 2], np.int32))
    assert rows.tolist() == [[16, 17, 18, 19], [0, 1, 2, 3], [8, 9, 10, 11]]
    for wrong in (-1, 5):
        with pytest.raises(DataError, match="artifact rows: an input is out of its range"):
            session.run_integer(np.array([0, wrong, 0], np.int32))


# -- manifests


def changed(*path: Any, to: Any) -> dict[str, bytes]:
    """The artifact with one entry of its manifest replaced, and sealed again."""
    manifest = json.loads(built().files[format.MANIFEST])
    held = manifest
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = to
    return {**built().files, format.MANIFEST: format.sealed(manifest)}


FORGED = [
    (("state_bytes",), -1, "state_bytes: -1, an integer in"),
    (("state_bytes",), 1, r"states\[0\].offset: 0, a multiple of 64 from 0 on is needed, so"),
    (("states", 1, "offset"), 0, r"states\[1\].offset: 0, a multiple of 64 from 24 on"),
    (("states", 1, "offset"), 65, r"states\[1\].offset: 65, a multiple of 64"),
    (("states", 1, "name"), "total", "states: 'total' stands twice, once is needed"),
    (("states", 0, "initial"), 70_000, r"states\[0\].initial: 70000, one in its range is needed"),
    (("entries",), [], "entries: a list of 0, one or more are needed"),
    (("entries", 0, "name"), "prefill", "entries: 'prefill' stands twice, once is needed"),
    (("entries", 0, "name"), "a/b", r"entries\[0\].name: 'a/b', a C identifier is needed"),
    (("entries", 0, "graph"), "none", "graph of decode: 'none', one of the files is needed"),
    (("entries", 0, "stored_bytes"), 1 << 60, r"entries\[0\].stored_bytes: 1152921504606846976"),
    (("entries", 0, "limits"), [{"input": 5, "low": 0, "high": 1}], "a range of no input"),
    (("entries", 0, "limits"), [{"input": 0, "low": 1, "high": 0}], "a range of no input"),
    (("entries", 0, "limits"), [{"input": 0, "low": 0, "high": 1, "x": 1}], "'x' in it, only"),
    (("entries", 0, "variants"), [{"name": "a", "steps": []}], "others than the artifact's"),
    (("golden", "calls"), ["other"], r"golden.calls\[0\]: 'other', the name of an entry"),
    (("golden", "calls"), ["decode"], "golden.file: 'golden.bin' of .* bytes, .* are needed"),
    (("constants",), "../x", "constants: '../x', one of the files is needed"),
    (("abi",), 2, "inputs: missing"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "to", "why"), FORGED)
def test_a_forged_manifest_is_refused(path: tuple[Any, ...], to: Any, why: str) -> None:
    with pytest.raises(ArtifactError, match=why):
        runtime.from_files(changed(*path, to=to))


@pytest.mark.parametrize(
    ("path", "to", "name"),
    [
        (("workspace_bytes",), 64, "workspace_bytes"),
        (("entries", 1, "stored_bytes"), 1, "stored_bytes"),
        (("entries", 0, "steps"), [], "steps"),
    ],
)
def test_sizes_other_than_the_codes_are_refused(path: tuple[Any, ...], to: Any, name: str) -> None:
    forged = runtime.from_files(changed(*path, to=to))
    with pytest.raises(ArtifactError, match=f"{name} .* in its manifest, .* in its code"):
        runtime.Session(forged)
