"""Data for passes in case files: samples by seed, and what passes derive from them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from qir.ir.errors import ParseError
from qir.ir.graph import Graph
from qir.ir.text.printer import text
from qir.ir.types import Array
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Pass
from qir.passes.transform.channel_ranges import channel_reach

REAL = re.compile(r"(?<![\w.%@])-?\d+\.\d+(?:e[-+]?\d+)?")
WITHIN = 1e-5  # relative, of reals computed from a sample
SAMPLE = re.compile(r"(?P<count>[1-9]\d{0,3}) of seed (?P<seed>\d{1,9})")
PARTS = 8  # of 1: samples are multiples of 1/8, so that small networks compute on them exactly


def is_near(a: str, b: str) -> bool:
    """Whether two lines of text are equal but for reals, and these near each other."""
    if REAL.sub("", a) != REAL.sub("", b):
        return False
    a_reals, b_reals = (np.array([float(r) for r in REAL.findall(line)]) for line in (a, b))
    return bool(np.allclose(a_reals, b_reals, rtol=WITHIN, atol=0.0))


@dataclass(frozen=True)
class CaseData:
    """What `// sample:` and `// reference:` lines of a case say.

    sample:    "COUNT of seed SEED", normal, in steps of 1/8; for options `sample`, `ranges`
               (min-max) and `halves`
    reference: "before", the graph before all passes, for options `reference`; or nothing
    """

    sample: str = ""
    reference: str = ""

    def fault(self) -> str | None:
        """What is wrong with the lines."""
        if self.sample and SAMPLE.fullmatch(self.sample) is None:
            return f"sample is {self.sample!r}, as in '32 of seed 0' is needed"
        if self.reference not in ("", "before"):
            return f"reference is {self.reference!r}, 'before' is needed"
        return None

    def arrays(self, graph: Graph) -> tuple[Array, ...]:
        """An array for each input; its first axis is that of samples."""
        parts = SAMPLE.fullmatch(self.sample)
        if parts is None:
            return ()
        rng, count = np.random.default_rng(int(parts["seed"])), int(parts["count"])
        arrays = []
        for v in graph.inputs:
            if not v.type.is_float or not v.type.rank:
                raise ParseError(f"sample of {v}: {v.type}, floats with an axis of samples needed")
            samples = rng.standard_normal((count, *v.type.shape[1:]))
            arrays.append((np.rint(samples * PARTS) / PARTS).astype(v.type.elem.carrier))
        return tuple(arrays)

    def are_equal(self, actual: Graph, expected: Graph) -> bool:
        """Whether two graphs are equal; where a sample was computed on, reals within 1e-5, as not
        every machine adds floats in one order.
        """
        if not self.sample or actual == expected:
            return actual == expected
        a_lines, b_lines = text(actual).split("\n"), text(expected).split("\n")
        return len(a_lines) == len(b_lines) and all(
            is_near(a, b) for a, b in zip(a_lines, b_lines, strict=True)
        )

    def on(self, one: Pass, before: Graph) -> Pass:
        """The pass with those of its options filled that these lines give and that it takes."""
        options: dict[str, Any] = {}
        options_of = {f.name for f in fields(one)}
        if self.reference and "reference" in options_of:
            options["reference"] = before
        if self.sample:
            sample = self.arrays(before)
            if "sample" in options_of:
                options["sample"] = sample
            if "ranges" in options_of:
                options["ranges"] = calibrate(before, sample, "min-max")
            if "halves" in options_of and not getattr(one, "reach", None):
                options["halves"] = channel_reach(before, sample)
        if options and "executor" in options_of:
            options["executor"] = ThreadPoolExecutor(1)
        return replace(one, **options) if options else one
