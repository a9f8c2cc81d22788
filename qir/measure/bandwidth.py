"""How fast this machine reads memory."""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BUFFER = 1 << 28  # bytes: more than caches hold
ROUNDS = 5


def read_bandwidth(threads: int = 1) -> float:
    """Bytes a second that so many threads read from memory together, the best of ROUNDS.

    They search zeros for another byte, which a C library does by vectors, as fast as memory is.
    """
    search = ctypes.CDLL(None).memchr
    search.argtypes, search.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), None
    buffer = np.zeros(BUFFER, np.uint8)
    buffer[:] = 0  # pages of its own, not one of zeros for all
    part = BUFFER // threads
    starts = [buffer.ctypes.data + i * part for i in range(threads)]
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            list(pool.map(lambda start: search(start, 1, part), starts))
            best = min(best, time.perf_counter() - begin)
    return part * threads / best
