"""Imports in several threads, and in a forked child: the same graphs as one after the other."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from qir.frontends.torch import import_torch
from qir.frontends.torch.importer import _TRACING
from qir.ir.text.printer import text


def graph(model: torch.nn.Module) -> str:
    return text(import_torch(model, [torch.zeros(1, 4)]))


def test_threads_import_the_same_graphs() -> None:
    # Drawn before the threads start: they share torch's one generator.
    layers = [torch.nn.Linear(4, width) for width in range(3, 9)]
    models = [torch.nn.Sequential(layer, torch.nn.ReLU()).eval() for layer in layers]
    alone = [graph(model) for model in models]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(graph, models)) == alone


def test_a_child_of_a_process_that_imports_waits_for_nobody() -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with _TRACING:
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    child = os.fork()
    if child == 0:
        with _TRACING:
            os._exit(7)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    finally:
        leave.set()
        thread.join()
