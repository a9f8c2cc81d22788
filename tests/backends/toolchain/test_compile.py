"""The processes that build kernels: whose answer one gets, and what is said when there is none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from qir.backends import find, lower
from qir.backends.kernels.kernel import Code
from qir.backends.toolchain import compile as compiling
from qir.backends.toolchain import service
from qir.backends.toolchain.compile import Compiled, compile_kernels
from qir.ir.errors import LowerError
from tests.small_graphs import residual_network

CPU = find("x86-64")


@pytest.fixture
def codes() -> dict[str, Code]:
    return {f"qir_{name}": code for name, code in lower(residual_network(), CPU).codes.items()}


@dataclass(frozen=True)
class Unknown:
    """A code that no kernel is written for."""

    units: int = 1


@dataclass(frozen=True)
class Acting:
    """A code that makes the process which unpickles it call a function."""

    function: Callable[..., Any]
    argument: Any
    units: int = 1

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any]]:
        return self.function, (self.argument,)


@dataclass(frozen=True)
class Unpicklable:
    units: int = 1

    def __reduce__(self) -> str:
        raise TypeError("a handle of the driver")


def shares(codes: dict[str, Code]) -> list[dict[str, Code]]:
    """Each kernel alone."""
    return [{symbol: code} for symbol, code in codes.items()]


def test_a_kernel_that_is_not_written_is_named(codes: dict[str, Code]) -> None:
    why = r"kernels: 1 faults in their code\n  qir_x: TIR cannot be made \(LookupError: "
    with pytest.raises(LowerError, match=why):
        compile_kernels({**codes, "qir_x": Unknown()}, CPU)
    assert set(compile_kernels(codes, CPU).checked) == set(codes)


def test_a_child_that_dies_is_an_error_and_the_next_one_serves(codes: dict[str, Code]) -> None:
    with pytest.raises(LowerError, match="kernels: the process that builds them died, an answer"):
        compile_kernels({"qir_x": Acting(os._exit, 1)}, CPU)
    assert compile_kernels(codes, CPU).checked == tuple(sorted(codes))


def test_a_server_that_dies_is_an_error_with_its_last_words(codes: dict[str, Code]) -> None:
    server = service._server()
    os.write(server.log.fileno(), b"out of memory\n")
    os.kill(server.process.pid, signal.SIGSTOP)  # so that the question is never taken
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(compile_kernels, codes, CPU)
        time.sleep(0.2)
        os.kill(server.process.pid, signal.SIGKILL)
        words = r"(?s)builds them died, an answer is .*\n  out of memory"
        with pytest.raises(LowerError, match=words):
            waiting.result()
    assert compile_kernels(codes, CPU).checked == tuple(sorted(codes))


@pytest.mark.parametrize("who", ["child", "server"])
def test_what_hangs_is_ended(
    codes: dict[str, Code], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    few = shares(codes)[0]
    compile_kernels(few, CPU)
    server = service._server()
    if who == "server":
        os.kill(server.process.pid, signal.SIGSTOP)
    hanging = {"qir_x": Acting(time.sleep, 600)} if who == "child" else few
    monkeypatch.setattr(service, "SECONDS", 1)
    with pytest.raises(LowerError, match="the process that builds them ran over 1 s, an answer"):
        compile_kernels(hanging, CPU)
    assert not server.lives
    assert not children_of(server.process.pid)
    monkeypatch.undo()
    assert compile_kernels(few, CPU).checked == tuple(few)


def children_of(group: int) -> list[int]:
    """Processes of the session that a server leads; those that just end get a moment."""
    for _ in range(50):
        left = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != group:
                with suppress(ProcessLookupError):
                    if os.getsid(int(entry.name)) == group:
                        left.append(int(entry.name))
        if not left:
            break
        time.sleep(0.1)
    return left


def test_a_code_that_cannot_be_pickled_is_named(
    codes: dict[str, Code], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second share too: the first was not asked for then."""
    monkeypatch.setattr(compiling, "ENOUGH", 2)
    why = r"kernels: 1 cannot be pickled.*\n  qir_zz: TypeError: a handle of the driver"
    with pytest.raises(LowerError, match=why):
        compile_kernels({**shares(codes)[0], "qir_zz": Unpicklable()}, CPU)
    assert set(compile_kernels(codes, CPU).checked) == set(codes)


class Interruption(BaseException):
    """What a signal raises; like KeyboardInterrupt it is no Exception."""


def interrupted(number: int, frame: FrameType | None) -> None:
    raise Interruption


def test_after_an_interruption_anywhere_the_next_answer_is_the_right_one(
    codes: dict[str, Code], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "ENOUGH", 2)  # two questions at once
    first, second = dict(list(codes.items())[:3]), dict(list(codes.items())[2:5])
    expected = compile_kernels(second, CPU)
    before = signal.signal(signal.SIGALRM, interrupted)
    interruptions = 0
    try:
        for milliseconds in (1, 2, 3, 5, 8, 12, 20, 40, 80):
            try:
                signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
                compile_kernels(first, CPU)
            except Interruption:
                interruptions += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert compile_kernels(second, CPU) == expected
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interruptions > 3
    assert not children_of(service._server().process.pid)


def test_threads_get_their_own_answers(codes: dict[str, Code]) -> None:
    """A failure of one is none of the others."""
    each = shares(codes)
    expected = [compile_kernels(share, CPU) for share in each]

    def ask(number: int) -> Compiled | str:
        if number % 4 == 3:
            try:
                return compile_kernels({"qir_x": Acting(os._exit, 1)}, CPU)
            except LowerError as e:
                return str(e).splitlines()[0]
        return compile_kernels(each[number % len(each)], CPU)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(24)))
    for number, answer in enumerate(answers):
        if number % 4 == 3:
            assert "died" in str(answer)
        else:
            assert answer == expected[number % len(each)]


def test_a_forked_process_asks_a_server_of_its_own(codes: dict[str, Code]) -> None:
    few, other = shares(codes)[:2]
    expected = compile_kernels(few, CPU)
    server = service._server()
    child = os.fork()
    if child == 0:
        try:
            same = compile_kernels(few, CPU) == expected
            own = service._server() is not server
            service.close()
            os._exit(0 if same and own else 1)
        finally:
            os._exit(2)
    assert set(compile_kernels(other, CPU).checked) == set(other)
    assert os.waitpid(child, 0)[1] == 0
    assert server.lives
    assert compile_kernels(few, CPU) == expected


def test_a_question_that_is_none_is_answered_with_the_fault() -> None:
    (answer,) = service.answers([b"nothing"])
    assert "UnpicklingError" in answer.faults[0]


def test_two_processes_give_the_bytes_of_one(
    codes: dict[str, Code], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "ENOUGH", 4)
    both = compile_kernels(codes, CPU)
    assert both == compile_kernels(codes, CPU)
    assert sorted(both.checked) == sorted(codes) and len(both.objects) == 2
