"""Builds kernels in small batches; `main` is the child process that does so."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeAlias

from qir.backends.toolchain.built import Built
from qir.backends.tvm.build import build_object, lower
from qir.backends.tvm.c_expression import NotC
from qir.backends.tvm.c_source import c_function
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.integer_only import integer_only
from qir.backends.tvm.kernels.registry import emit

Generated: TypeAlias = tuple[list[bytes], list[tuple[str, str]]]
"""Objects, and the symbols and texts of functions."""

BATCH = 12
"""Kernels of one object: few, so that one which LLVM never finishes is found among few."""


def build(target: Mapping[str, object], codes: Mapping[str, Any]) -> Built:
    """Objects of these kernels, each proven to be integer-only first."""
    symbols = list(codes)
    objects: list[bytes] = []
    texts: list[tuple[str, str]] = []
    faults: list[str] = []
    for at in range(0, len(symbols), BATCH):
        functions: dict[str, PrimFunc] = {}
        for symbol in symbols[at : at + BATCH]:
            faults += _emit(functions, symbol, codes[symbol])
        if not faults:
            generate = GENERATE[str(target["kind"])]
            more_objects, more_texts = generate(functions, target, faults)
            objects, texts = objects + more_objects, texts + more_texts
    checked = () if faults else tuple(symbols)
    return Built(tuple(objects), checked, tuple(faults), version("apache-tvm"), tuple(texts))


def _emit(functions: dict[str, PrimFunc], symbol: str, code: Any) -> list[str]:
    """Add the kernel's TIR to `functions`; the faults of it."""
    try:
        functions[symbol] = emit(code, symbol)
    except Exception as e:  # TVM raises many kinds; all mean that this kernel cannot be built
        return [f"{symbol}: TIR cannot be made ({type(e).__name__}: {str(e).splitlines()[0]})"]
    return [f"{symbol}: {text}" for text in integer_only(functions[symbol])]


def _objects(
    functions: Mapping[str, PrimFunc], target: Mapping[str, object], faults: list[str]
) -> Generated:
    """One object, or where LLVM cannot make that, one a function; faults name their kernel."""
    try:
        return [build_object(functions, target)], []
    except Exception as e:
        if len(functions) == 1:
            lines = str(e).strip().splitlines() or [type(e).__name__]
            faults.append(f"{next(iter(functions))}: {lines[-1]}")
            return [], []
    return [c for s, f in functions.items() for c in _objects({s: f}, target, faults)[0]], []


def _texts(
    functions: Mapping[str, PrimFunc], target: Mapping[str, object], faults: list[str]
) -> Generated:
    """Each kernel as a C function; faults name theirs."""
    texts = []
    for variable, function in lower(functions, target).functions.items():
        symbol = variable.name_hint
        try:
            texts.append((symbol, c_function(function, symbol)))
        except NotC as e:
            faults.append(f"{symbol}: {e} has no portable C")
    return [], texts


GENERATE: Mapping[str, Callable[..., Generated]] = {"llvm": _objects, "c": _texts}
"""By the kind of a machine as TVM describes it."""


def main() -> None:
    """Fork a child for each question on standard input, a socket, until its other end is closed.

    A question is one byte and two descriptors: a file with the pickled (target, {symbol: code}),
    and the connection on which the pickled Built is expected.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(fileno=0) as questions:
        while (message := socket.recv_fds(questions, 1, 2))[0]:
            if os.fork() == 0:
                questions.close()
                _answer(*message[1])
            for handle in message[1]:
                os.close(handle)


def _answer(file: int, handle: int) -> NoReturn:
    """In the child: build, answer, and end, whatever happens."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection = Connection(handle)
        _end_with(handle)
        result = _build(file) if not connection.poll() else None  # closed before that took effect
        fcntl.fcntl(handle, fcntl.F_SETFL, 0)  # the caller reads now, which is no hang-up
        connection.send_bytes(pickle.dumps(result))
    except OSError:
        pass  # nobody wants the answer any more
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _end_with(handle: int) -> None:
    """End this process, and those it forks, when the other end of the connection is closed."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(handle, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(handle, fcntl.F_SETFL, os.O_ASYNC)


def _build(file: int) -> Built:
    try:
        with os.fdopen(file, "rb") as question:
            question.seek(0)
            target, codes = pickle.load(question)
        return build(target, codes)
    except Exception:
        return Built((), (), (traceback.format_exc(),), "")
