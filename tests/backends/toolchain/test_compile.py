"""The processes that build kernels: what they answer, and what is said when they cannot."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from qir.backends import find, lower
from qir.backends.lowering.context import Unit
from qir.backends.toolchain import compile as compiling
from qir.backends.toolchain.compile import compile_kernels
from qir.ir.errors import LowerError
from tests.small_graphs import residual_network

CPU = find("x86-64")


@pytest.fixture
def codes() -> dict[str, Unit]:
    return {f"qir_{name}": code for name, code in lower(residual_network(), CPU).codes.items()}


@pytest.fixture(autouse=True)
def fresh_processes() -> Iterator[None]:
    yield
    compiling._close_all()


@dataclass(frozen=True)
class Unknown:
    """A code that no kernel is written for."""

    units: int = 1


def test_a_kernel_that_is_not_written_is_named(codes: dict[str, Unit]) -> None:
    why = r"kernels: 1 faults in their code\n  qir_x: TIR cannot be made \(LookupError: "
    with pytest.raises(LowerError, match=why):
        compile_kernels({**codes, "qir_x": Unknown()}, CPU)
    assert set(compile_kernels(codes, CPU).checked) == set(codes)


def test_a_process_that_dies_is_an_error_and_the_next_one_serves(codes: dict[str, Unit]) -> None:
    few = dict(list(codes.items())[:1])
    compile_kernels(few, CPU)
    worker = compiling._WORKERS[0]
    os.kill(worker._process.pid, signal.SIGSTOP)
    worker.ask("nothing")
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(LowerError, match="kernels: the process that builds them died, an answer"):
        worker.answer()
    assert compile_kernels(few, CPU).checked == tuple(few)


def test_a_process_that_hangs_is_ended(
    codes: dict[str, Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict(list(codes.items())[:1])
    compile_kernels(few, CPU)
    worker = compiling._WORKERS[0]
    os.kill(worker._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(compiling, "SECONDS", 1)
    with pytest.raises(LowerError, match="the process that builds them ran over 1 s, an answer"):
        compile_kernels(few, CPU)
    assert not worker.lives


def test_a_question_that_is_none_is_answered_with_the_fault() -> None:
    compiling.warm()
    worker = compiling._WORKERS[0]
    worker.ask("nothing")
    assert "ValueError" in worker.answer().faults[0]


def test_two_processes_give_the_bytes_of_one(
    codes: dict[str, Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "ENOUGH", 4)
    both = compile_kernels(codes, CPU)
    assert both == compile_kernels(codes, CPU)
    assert sorted(both.checked) == sorted(codes) and len(both.objects) == 2
