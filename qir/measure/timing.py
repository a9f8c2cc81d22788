"""The least and the median time of many calls, in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

LEAST_RUNS = 10
WARM_UP = 3  # calls before the clock starts: pages, caches, branch predictors


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: the least shows the code's speed, the median also the machine's."""

    least: float
    median: float
    runs: int

    def merged(self, other: Timing) -> Timing:
        """Of alternating runs: the least of all, the lower median."""
        least, middle = min(self.least, other.least), min(self.median, other.median)
        return Timing(least, middle, self.runs + other.runs)


def measure(call: Callable[[], object], seconds: float) -> Timing:
    """Time `call` for `seconds`, at least LEAST_RUNS times."""
    for _ in range(WARM_UP):
        call()
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return Timing(min(times) / 1000, median(times) / 1000, len(times))
