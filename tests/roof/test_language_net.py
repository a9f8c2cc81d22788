"""Language models: the interpreter's bits at every position, however a prompt is read."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qir
from qir import runtime
from qir.backends import build, find
from qir.cli import main
from qir.ir.errors import ArtifactError, DataError, PassError
from qir.ir.interpret import dequantize_outputs
from qir.ir.ops import WriteRows
from qir.ir.states import StateMemory
from qir.ir.types import Array
from qir.language_net import LanguageNet, Sampler
from qir.report.model import Report
from qir.runtime.machine import cpu_flags
from tests.emulated.harness import need_emulator
from tests.float_decoders import float_graph, random_decoder

ROOM, CHUNK, VOCABULARY = 20, 6, 40
X86 = find("x86").variants
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, ROOM)


@cache
def net() -> LanguageNet:
    graph = float_graph(random_decoder(), 1, ROOM)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (8, ROOM))
    return qir.compile_lm(graph, calibration=ids, max_tokens=ROOM, prefill=CHUNK, name="small")


@cache
def wanted() -> Array:
    """The interpreter's logits, read token by token."""
    graph = net().entries["decode"]
    memory, rows = StateMemory(graph), []
    for at, token in enumerate(TOKENS):
        ids, start = np.array([[token]]), np.array(at)
        (logits,) = memory.call(graph, [ids, start])
        others = list(memory.arrays.values())
        rows.append(dequantize_outputs(graph, [logits, *others])[0][0, 0])
    return np.array(rows)


def assert_reads_as_the_interpreter(language: LanguageNet) -> None:
    """Every split of a prompt into chunks and tokens gives the logits of each position."""
    assert np.array_equal(language.logits(TOKENS), wanted())
    for first in (1, 5, 6, 7, 12, 19):
        sequence = language.new_sequence()
        assert np.array_equal(language.prefill(TOKENS[:first], sequence), wanted()[first - 1])
        for at in range(first, ROOM):
            logits = language.decode(int(TOKENS[at]), sequence)
            assert np.array_equal(logits, wanted()[at]), (first, at)
        assert sequence.length == ROOM


@cache
def files(target: str) -> Mapping[str, bytes]:
    """The artifact of the same model for another target."""
    return build(net().entries, target, "small").files


def made(target: str, **options: Any) -> LanguageNet:
    """The same model for another target."""
    session = runtime.opened(runtime.from_files(files(target)), **options)
    return LanguageNet(session, net().stages, net().report(), net().entries)


def test_every_position_has_the_interpreters_bits() -> None:
    assert (net().vocabulary, net().max_tokens, net().chunk) == (VOCABULARY, ROOM, CHUNK)
    assert_reads_as_the_interpreter(net())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
def test_on_every_variant_of_this_cpu() -> None:
    names = [v.name for v in X86 if set(v.needs) <= cpu_flags()]
    assert names
    for name in names:
        assert_reads_as_the_interpreter(made("x86", variant=name))


def test_in_portable_c() -> None:
    assert_reads_as_the_interpreter(made("c"))


@pytest.mark.parametrize("target", ["aarch64", "riscv64"])
def test_on_emulated_machines(target: str) -> None:
    need_emulator(target)
    language = made(target, emulate=True)
    assert np.array_equal(language.logits(TOKENS), wanted())


def test_a_prompt_has_the_logits_of_its_last_token_alone() -> None:
    macs = {name: entry.steps[-1]["macs"] for name, entry in net().session.entries.items()}
    assert macs["prefill"] == macs["decode"] > 0 and macs["logits"] == CHUNK * macs["decode"]
    # the last layer's MLP too
    of_all, of_last = (
        sum(step["macs"] for step in net().session.entries[name].steps)
        for name in ("logits", "prefill")
    )
    width = 32
    per_token = VOCABULARY * width + 9 * width * width + width * width
    assert of_all - of_last == (CHUNK - 1) * per_token


def test_the_report_says_how_far_the_logits_are_from_the_float_models() -> None:
    agreement = net().report().agreement
    assert agreement is not None and agreement.tokens % ROOM == 0 and len(agreement.positions) == 8
    assert 0 < agreement.kl < 0.01 and 0.9 < agreement.top1 <= 1 and min(agreement.positions) > 20
    assert f"{1000 * agreement.kl:.2f} mnat" in str(net().report())
    assert "mnat" in net().report().html()
    assert Report.from_json(net().report().to_json()) == net().report()


def test_a_token_reads_one_row_of_the_table() -> None:
    steps = net().session.entries["decode"].steps
    (embed,) = (step for step in steps if step["kernel"].startswith("embed"))
    assert embed["constants_bytes"] == 32 + 4  # of a row, and its multiplier


def test_caches_are_written_in_place() -> None:
    writes = [op for op in net().entries["decode"].ops if isinstance(op, WriteRows)]
    assert len(writes) == 4
    titles = [step["title"] for step in net().session.entries["decode"].steps]
    assert not any("state" in title for title in titles)  # copies of a state are named after it


def test_generation_takes_the_likeliest() -> None:
    sequence, found = net().new_sequence(), []
    logits = net().prefill(TOKENS[:4], sequence)
    for _ in range(6):
        found.append(int(logits.argmax()))
        logits = net().decode(found[-1], sequence)
    assert list(net().generate(TOKENS[:4], 6)) == found
    assert list(net().generate(TOKENS[:4], 0)) == []
    assert list(net().generate(TOKENS[:4], 6, stop=[found[3]])) == found[: found.index(found[3])]


def test_a_sequence_goes_on() -> None:
    whole = list(net().generate(TOKENS[:4], 8))
    sequence = net().new_sequence()
    first = list(net().generate(TOKENS[:4], 3, sequence=sequence))
    assert sequence.length == 4 + 2
    saved_copy = sequence.copy()
    again = list(net().generate(first[-1:], 5, sequence=sequence))
    assert first + again == whole
    assert list(net().generate(first[-1:], 5, sequence=saved_copy)) == again


def test_drawing_depends_on_the_seed_alone() -> None:
    def drawn(seed: int, **more: Any) -> list[int]:
        return list(net().generate(TOKENS[:3], 12, temperature=50.0, seed=seed, **more))

    assert drawn(1) == drawn(1) and drawn(1) != drawn(2)
    assert drawn(5, top_k=1) == list(net().generate(TOKENS[:3], 12))


def test_draws_are_as_likely_as_the_logits_say() -> None:
    draw = Sampler(1.0, 2, np.random.default_rng(0))
    logits = np.log(np.array([0.2, 0.6, 0.1, 0.1]))
    counts = np.bincount([draw(logits) for _ in range(4000)], minlength=4)
    assert counts[2] == counts[3] == 0 and abs(counts[1] / 4000 - 0.75) < 0.03


def test_threads_read_sequences_of_their_own() -> None:
    def read(first: int) -> list[int]:
        return list(net().generate(TOKENS[first : first + 4], 12))

    alone = [read(i) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(read, range(6))) == alone


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    loaded = qir.load(net().save(tmp_path / "small.qir"), threads=2)
    assert isinstance(loaded, LanguageNet)
    assert np.array_equal(loaded.logits(TOKENS), wanted())
    assert list(loaded.entries) == ["decode", "prefill", "logits"]
    assert loaded.entries == net().entries
    loaded.close()


def test_the_report_has_all_entries() -> None:
    report = net().report()
    tokens = {e.name: e.tokens for e in report.entries}
    assert tokens == {"decode": 1, "prefill": CHUNK, "logits": CHUNK}
    assert report.entries[2].macs == CHUNK * report.entries[0].macs
    assert report.sizes.state == net().session.manifest["state_bytes"]
    assert "prefill" in str(report) and "prefill" in report.html()


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([], "net small: 0 tokens, at least 1 is needed"),
        ([40], r"ids reach \[40, 40\], \[0, 39\] is needed"),
        ([3, -1], r"ids reach \[-1, 3\], \[0, 39\] is needed"),
        ([1.0], r"float64\[1\] given, integer ids of one sequence are needed"),
        ([[1], [2]], r"int64\[2, 1\] given, integer ids of one sequence are needed"),
        ([1] * 16, "21 tokens in all, at most 20 have room"),
    ],
)
def test_tokens_that_cannot_be_read_leave_the_sequence(ids: Any, why: str) -> None:
    sequence = net().new_sequence()
    net().prefill(TOKENS[:5], sequence)
    before = sequence.memory.copy()
    with pytest.raises(DataError, match=why) as e:
        net().prefill(ids, sequence)
    assert "\n" not in e.value.text
    with pytest.raises(DataError, match=why if len(ids) < 16 else "21 tokens in all"):
        net().generate(ids, 1, sequence=sequence)
    assert sequence.length == 5 and np.array_equal(sequence.memory, before)


def test_a_full_cache_is_said_before_the_first_token() -> None:
    with pytest.raises(DataError, match="21 tokens in all, at most 20 have room"):
        net().generate(TOKENS[:10], 12)
    assert len(list(net().generate(TOKENS[:10], 11))) == 11


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens: -1, an integer from 0 is needed"),
        ({"max_new_tokens": 1.5}, "max_new_tokens: 1.5, an integer from 0 is needed"),
        ({"top_k": -2}, "top_k: -2, an integer from 0 is needed"),
        ({"temperature": -0.5}, "temperature: -0.5, a number from 0 is needed"),
        ({"sequence": 3}, "sequence is a int, a Sequence is needed"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        net().generate([1], **{"max_new_tokens": 1, **options})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_tokens": 1}, "max_tokens: 1 given, an integer from 2 on is needed"),
        ({"prefill": 0}, "prefill: 0 given, an integer from 2 on is needed"),
        ({"calibration": [0.5]}, r"calibration: float64\[1\] given, token ids"),
        ({"calibration": [-1]}, r"calibration: int64\[1\] given, token ids"),
        ({"calibration": [3, 40]}, r"calibration: ids reach 40, \[0, 39\] is needed"),
        ({"max_tokens": 30}, r"model: inputs tensor<1x20xi32>, ids of shape \[1, 30\] are needed"),
    ],
)
def test_what_cannot_be_compiled_is_said(options: dict[str, Any], why: str) -> None:
    graph = float_graph(random_decoder(), 1, ROOM)
    with pytest.raises(DataError, match=why):
        qir.compile_lm(graph, **{"calibration": TOKENS, "max_tokens": ROOM, **options})


def test_statuses_of_indexes_in_c() -> None:
    """A start or an id out of range is status 3, and the state is as it was."""
    import ctypes

    from qir.runtime.library import Library
    from qir.runtime.memory import aligned

    session = net().session
    run = Library(session.loaded).function("logits_run", [ctypes.c_void_p] * 6)
    ids, start = np.zeros((1, CHUNK), np.int32), np.zeros((), np.int32)
    out, work = np.zeros(CHUNK * VOCABULARY, np.int32), aligned(1 << 20, 128)
    weights, state = session.weights, session.new_state()  # type: ignore[attr-defined]
    before = state.copy()

    def status() -> int:
        inputs = (ctypes.c_void_p * 2)(ids.ctypes.data, start.ctypes.data)
        outputs = (ctypes.c_void_p * 1)(out.ctypes.data)
        at = (state.ctypes.data, work.ctypes.data, weights.ctypes.data)
        return int(run(inputs, outputs, *at, None))

    for bad in (-1, ROOM - CHUNK + 1, 2**31 - 1):
        start[...] = bad
        assert status() == 3
    start[...] = 0
    for bad in (-1, VOCABULARY):
        ids[0, -1] = bad
        assert status() == 3
    assert np.array_equal(state, before)
    ids[0, -1], start[...] = VOCABULARY - 1, ROOM - CHUNK
    assert status() == 0 and not np.array_equal(state, before)
    with pytest.raises(runtime.DataError, match=r"input start: values reach \[15, 15\], \[0, 14\]"):
        session.entries["logits"].run_integer(state, ids, np.int32(15))
    with pytest.raises(runtime.DataError, match=r"input last: values reach \[6, 6\], \[0, 5\]"):
        session.entries["prefill"].run_integer(state, ids, np.int32(0), np.int32(CHUNK))


def test_an_encoder_is_refused() -> None:
    from dataclasses import replace

    from qir.ir.ops import Attention

    graph = float_graph(random_decoder(), 1, ROOM)
    graph = graph.mapped(
        lambda op, _: replace(op, causal=False) if isinstance(op, Attention) else op
    )
    with pytest.raises(PassError, match="causal attention without a mask or a start is"):
        qir.compile_lm(graph, calibration=TOKENS, max_tokens=ROOM)


def test_an_artifact_of_another_kind_is_a_plain_net(tmp_path: Path) -> None:
    assert not isinstance(qir.load(_plain(tmp_path)), LanguageNet)
    with pytest.raises(ArtifactError, match="cannot be read"):
        qir.load(tmp_path / "none")


def _plain(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    data = rng.normal(size=(8, 4)).astype(np.float32)
    return qir.compile(model, calibration=data).save(folder / "plain.qir")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(net().save(tmp_path / "small.qir"))
    ids = ",".join(map(str, TOKENS[:4]))
    assert main(["generate", path, "--ids", ids, "--tokens", "5"]) == 0
    output = capsys.readouterr().out
    assert list(map(int, output.split())) == list(net().generate(TOKENS[:4], 5))

    np.savez(tmp_path / "x.npz", tokens=TOKENS[None, :1].astype(np.int32), start=np.int32(0))
    run = ["run", path, "--entry", "decode", "--input", str(tmp_path / "x.npz")]
    state, out = ["--state", str(tmp_path / "s.npy")], ["-o", str(tmp_path / "y.npz")]
    assert main([*run, *state, *out]) == 0
    (logits,) = np.load(tmp_path / "y.npz").values()
    assert np.array_equal(logits[0, 0], wanted()[0])
    np.savez(tmp_path / "x.npz", tokens=TOKENS[None, 1:2].astype(np.int32), start=np.int32(1))
    assert main([*run, *state, *out]) == 0
    (logits,) = np.load(tmp_path / "y.npz").values()
    assert np.array_equal(logits[0, 0], wanted()[1])

    assert main(["bench", path, "--seconds", "0.1", "--json"]) == 0
    timed = json.loads(capsys.readouterr().out)
    assert list(timed["entries"]) == ["decode", "prefill", "logits"] and timed["ops"]
    assert main(["bench", path, "--seconds", "0.1", "--entry", "prefill"]) == 0
    assert "tokens/s" in capsys.readouterr().out
    assert main(["report", path]) == 0
    assert "prefill" in capsys.readouterr().out


def test_usage_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(net().save(tmp_path / "small.qir"))
    for arguments, why in (
        (["generate", path, "--ids", "99"], "ids reach [99, 99], [0, 39] is needed"),
        (["generate", str(_plain(tmp_path)), "--ids", "1"], "no language model, one is needed"),
        (["bench", path, "--entry", "none"], "entry 'none', one of those it has is needed"),
    ):
        assert main(arguments) != 0
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["generate", path, "--ids", "1,x"])
    assert "'1,x' given, ids as in 1,403,407 are needed" in capsys.readouterr().err
