"""Sessions: what they take and refuse, from one thread and from many."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from qir import runtime
from qir.backends import build
from qir.ir.data import Data
from qir.ir.graph import Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import Lookup, Reshape, Transpose
from qir.ir.types import I4, I8, I16, I32, U8, Int, Quant, Tensor
from qir.runtime import ArtifactError, DataError
from qir.runtime import address as addresses
from tests.small_graphs import Small, artifact, residual_network, stored_inputs


@pytest.fixture(scope="module")
def session() -> runtime.Session:
    return runtime.Session(runtime.from_files(artifact().files))


X = np.zeros((1, 3, 16, 16), np.float32)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((), r"artifact small: 0 inputs given, 1 are needed"),
        ((X, X), r"artifact small: 2 inputs given, 1 are needed"),
        ((X[:, :2],), r"input x: float32\[1, 2, 16, 16\] given, float32\[1, 3, 16, 16\] is needed"),
        ((np.zeros((2, 3, 16, 16)),), r"input x: float64\[2, 3, 16, 16\] given"),
        ((X.astype(np.uint8),), r"input x: uint8\[1, 3, 16, 16\] given, float32"),
        ((X.astype(complex),), r"input x: complex128"),
        ((["a"],), r"input x: <U1\[1\] given"),
    ],
)
def test_reals_that_do_not_fit_are_refused(
    session: runtime.Session,
    given: tuple[np.ndarray, ...],
    why: str,  # type: ignore[type-arg]
) -> None:
    with pytest.raises(DataError, match=why):
        session(*given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((), r"artifact small: 0 inputs given, 1 are needed"),
        ((X,), r"input x: float32\[1, 3, 16, 16\] given, uint8\[1, 3, 16, 16\] is needed"),
        ((X.astype(np.uint8)[0],), r"input x: uint8\[3, 16, 16\] given"),
        ((X.astype(np.int64) + 256,), r"input x: values reach \[256, 256\], \[0, 255\] is needed"),
        ((X.astype(np.int8) - 1,), r"input x: values reach \[-1, -1\], \[0, 255\] is needed"),
    ],
)
def test_stored_integers_that_do_not_fit_are_refused(
    session: runtime.Session,
    given: tuple[np.ndarray, ...],
    why: str,  # type: ignore[type-arg]
) -> None:
    with pytest.raises(DataError, match=why):
        session.run_integer(*given)


def test_any_layout_and_width_of_an_input_is_taken(session: runtime.Session) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 3, 16, 16)).astype(np.float32)
    expected = session(x)
    strided = np.zeros((1, 3, 16, 32), np.float32)[..., ::2]
    strided[...] = x
    crooked = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert not crooked.flags.aligned
    for same in (
        crooked,
        x.astype(np.float64),
        np.asfortranarray(x),
        strided,
        x.tolist(),
        x.astype(">f4"),
    ):
        assert np.array_equal(session(same), expected)
    q = stored_inputs(residual_network())[0]
    (want_q,) = session.run_integer(q)
    for same_q in (q.astype(np.int64), np.asfortranarray(q), q.astype(">u2")):
        assert np.array_equal(session.run_integer(same_q)[0], want_q)


def test_results_do_not_change_later(session: runtime.Session) -> None:
    one = session(X)
    saved_copy = one.copy()
    session(X + 2)
    assert np.array_equal(one, saved_copy)


def test_inputs_are_only_read(session: runtime.Session) -> None:
    x = X.copy()
    x.setflags(write=False)
    session(x)
    assert np.array_equal(x, X)


def test_nan_is_the_least_stored_value(session: runtime.Session) -> None:
    assert np.array_equal(session(np.full_like(X, np.nan)), session(np.full_like(X, -np.inf)))


def test_many_threads_get_what_one_gets(session: runtime.Session) -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=X.shape).astype(np.float32) for _ in range(8)]
    expected, wrong = [session(x) for x in inputs], []

    def call(i: int) -> None:
        for _ in range(200):
            if not np.array_equal(session(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == [] and len(session._boxes) <= 8


def test_a_pool_is_shared_by_callers() -> None:
    session = runtime.Session(runtime.from_files(artifact().files), threads=2)
    test_many_threads_get_what_one_gets(session)
    del session
    gc.collect()
    with pytest.raises(DataError, match="artifact small: 0 threads, at least 1 is needed"):
        runtime.Session(runtime.from_files(artifact().files), threads=0)
    with pytest.raises(ArtifactError, match="artifact small: 1000 threads cannot be started"):
        runtime.Session(runtime.from_files(artifact().files), threads=1000)


def test_a_profile_names_every_step(session: runtime.Session) -> None:
    steps = session.profile(*stored_inputs(residual_network()))
    assert [s["title"] for s, _ in steps] == [s.title for s in artifact().program.steps]
    assert all(0 < ns < 10**9 for _, ns in steps)


def test_a_wrong_golden_output_is_found(
    session: runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = session.golden_calls()
    cases[1][2][0][0, 3] ^= 1
    monkeypatch.setattr(session, "golden_calls", lambda: cases)
    why = "artifact small: golden case 1, output logits: 1 of 10 elements differ, 0 are needed"
    with pytest.raises(ArtifactError, match=why):
        session.selftest()


def of(make: Callable[[Small], list[Value]]) -> tuple[Graph, runtime.Session]:
    b = Small("border")
    graph = b.finish(make(b))
    return graph, runtime.Session(runtime.from_files(build(graph, "x86-64").files))


def test_inputs_of_every_storage_pass_the_border() -> None:
    storages: list[Int] = [U8, I8, I16, I4, I32]

    def make(b: Small) -> list[Value]:
        xs = [b.image(2, 3, name=f"x{i}", storage=s, zero=s.max) for i, s in enumerate(storages)]
        return [b.add(Transpose(x, (1, 0))) for x in xs]

    graph, session = of(make)
    rng = np.random.default_rng(0)
    for scale in (0.01, 1.0, 1e9):
        reals = [(rng.normal(size=(2, 3)) * scale).astype(np.float32) for _ in storages]
        expected = dequantize_outputs(graph, interpret(graph, quantize_inputs(graph, reals)))
        for actual, w in zip(session(*reals), expected, strict=True):
            assert np.array_equal(actual, w)
    with pytest.raises(DataError, match=r"input x3: values reach \[-9, 0\], \[-8, 7\] is needed"):
        q = [np.zeros((2, 3), np.int64) for _ in storages]
        q[3][0, 0] = -9
        session.run_integer(*q)


def test_integers_that_stand_for_no_reals_pass_unchanged() -> None:
    def make(b: Small) -> list[Value]:
        x = b.input("x", Tensor((2, 3), U8))
        return [b.add(Reshape(x, (3, 2)))]

    _, session = of(make)
    x = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(session(x), x.reshape(3, 2))
    assert session(x).dtype == np.uint8
    with pytest.raises(DataError, match=r"input x: float64\[2, 3\] given, uint8\[2, 3\] is needed"):
        session(x * 0.5)


def test_outputs_by_channel_are_dequantized_by_channel() -> None:
    def make(b: Small) -> list[Value]:
        return [b.conv(b.image(1, 4, 4, 3), 5)]

    graph, session = of(make)
    inputs = stored_inputs(graph)
    stored = interpret(graph, inputs)
    assert np.array_equal(session.run_integer(*inputs)[0], stored[0])
    real = ((inputs[0].astype(np.float32) - 128) * np.float32(0.02)).astype(np.float32)
    assert np.array_equal(session(real), dequantize_outputs(graph, stored)[0])


def test_a_call_costs_little_beside_the_kernels() -> None:
    """The Python around the native call; a loose bound, for machines that are busy."""

    def make(b: Small) -> list[Value]:
        table = Data(np.arange(256)[::-1].astype(np.uint8))
        return [b.add(Lookup(b.image(1, 16), table, Quant.per_tensor(U8, 0.1, 0)))]

    _, session = of(make)
    x = np.zeros((1, 16), np.float32)
    best = 1.0
    for _ in range(50):
        begin = time.perf_counter()
        for _ in range(100):
            session(x)
        best = min(best, (time.perf_counter() - begin) / 100)
    assert best < 30e-6


def test_addresses_are_those_of_the_first_elements() -> None:
    base = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    for x in (base, base[1:, 2:], base[::-1], base.T, np.zeros(1)):
        assert addresses.address(x) == addresses.by_interface(x) == x.ctypes.data
